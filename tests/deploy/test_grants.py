"""An exporter as users run it, with the three logins that `deploy/grants/` makes, on the three servers: each does all it should."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis as Client

from exporter.demo.servers import HOST, Postgres, RabbitMQ, Redis
from exporter.demo.trading.schema import seed
from tests.brokers import QUEUE
from tests.conftest import Count
from tests.deploy.granted import (
    LOGIN,
    PASSWORD,
    Definitions,
    grant_postgres,
    grant_rabbitmq,
    grant_redis,
    only_looks_at_postgres,
    only_looks_at_rabbitmq,
    only_looks_at_redis,
)
from tests.running import Running
from tests.servers import eventually_now, execute, started

CONFIGURATION = """
defaults: {{interval: 1s}}
probes:
  db: {{type: postgres, url: "{postgres}"}}
  redis: {{type: redis, url: "{redis}"}}
  rabbitmq: {{type: rabbitmq, url: "{rabbitmq}", queues: [{queue}]}}
"""
COLLECTORS = {"db": ("database", "activity", "locks", "replication", "settings"), "redis": ("info",), "rabbitmq": ("queues",)}
FEATURES = {"db": ("all_sessions", "database_size"), "redis": ("info",), "rabbitmq": ("round_trip", "queues")}


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[str]:
    """The URL of the database `app`, as the login that the README's command makes."""

    async def granted() -> None:
        await execute(postgres_server.url, "CREATE DATABASE app")
        await execute(postgres_server.url_of("app"), *seed("unused", "unused")[:2])
        grant_postgres(postgres_server, "app")
        await only_looks_at_postgres(postgres_server.url_of("app"), LOGIN)

    asyncio.run(granted())
    yield f"postgresql://{LOGIN}:{quote(PASSWORD, safe='')}@{HOST}:{postgres_server.port}/app?sslmode=disable"
    asyncio.run(execute(postgres_server.url, "DROP DATABASE app WITH (FORCE)", f"DROP ROLE {LOGIN}"))


@pytest.fixture
def redis() -> Iterator[str]:
    server = started(Redis)
    grant_redis(server)
    with Client.from_url(server.url) as client:
        only_looks_at_redis(client, LOGIN)
    yield server.url_of(username=LOGIN, password=PASSWORD)
    server.close()


@pytest.fixture
def rabbitmq(rabbitmq_server: RabbitMQ) -> Iterator[str]:
    """Without a word of another one it is the virtual host `/`, and nothing of Celery's."""
    grant_rabbitmq(rabbitmq_server, "sh deploy/grants/rabbitmq.sh")
    only_looks_at_rabbitmq(Definitions.of(rabbitmq_server), LOGIN)
    yield rabbitmq_server.url_of(user=LOGIN, password=PASSWORD)
    rabbitmq_server.control("delete_user", LOGIN)


def test_all_succeeds_with_the_granted_logins(tmp_path: Path, postgres: str, redis: str, rabbitmq: str, count: Count) -> None:
    """Each check, each default collector, each capability, read from /metrics as Prometheus would."""
    written = CONFIGURATION.format(postgres=postgres, redis=redis, rabbitmq=rabbitmq, queue=QUEUE)
    wanted = _series("sidecar_collector_success", "collector", COLLECTORS)
    with Running(tmp_path, written) as exporter:
        eventually_now(lambda: exporter.samples("sidecar_collector_success").keys() == wanted.keys(), 15)
        succeeded = exporter.samples("sidecar_collector_success")
        count("collectors succeed with the granted logins", sum(value == 1 for value in succeeded.values()), len(wanted))
        assert succeeded == wanted
        assert exporter.samples("sidecar_capability") == _series("sidecar_capability", "feature", FEATURES)
        assert [*exporter.samples("pg_up{", "redis_up{", "rabbitmq_up{").values()] == [1, 1, 1]
        assert [exporter.status(name) for name in COLLECTORS] == ["healthy"] * 3
        assert not re.search(r"WARN|ERROR|l00k", exporter.said)


def _series(name: str, label: str, values: dict[str, tuple[str, ...]]) -> dict[str, float]:
    return {f'{name}{{probe="{probe}",{label}="{value}"}}': 1 for probe, some in values.items() for value in some}
