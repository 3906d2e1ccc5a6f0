"""The commands of the Compose file, run as they stand by this checkout's Python against real servers set up as it says.

Only addresses are replaced, and Docker's part is played by the tests: no container engine ran here.
"""

import asyncio
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.config.load import SYSTEM_PATH
from exporter.demo.servers import HOST, Postgres, RabbitMQ, Redis, User, reserve_port
from tests.deploy.compose import SERVICES, Container, in_repository, moved, programs_of_ours
from tests.running import Running
from tests.servers import closed_port, eventually_now, execute, fetch, found, free_port, start_redis

PATIENCE_SECONDS = 30.0
GRACE_SECONDS = 10.0
"""What a container has for its end before Docker kills it, unless the file says otherwise."""


@dataclass(frozen=True)
class Deployed:
    """All of the services but Prometheus and Grafana, as an operator has them after `docker compose up`."""

    postgres: Postgres
    redis: Redis
    rabbitmq: RabbitMQ
    application: Container
    worker: Container
    exporter: Running
    port: int
    """Where the application listens."""

    @property
    def database(self) -> str:
        return self.application.environment()["DATABASE_URL"]


def _postgres() -> Postgres:
    """With the options of the command, and what the image's first start makes of its variables: a superuser with a database."""
    program, *options = SERVICES["postgres"]["command"]
    assert (program, set(options[::2])) == ("postgres", {"-c"})
    user, password, database = (SERVICES["postgres"]["environment"][f"POSTGRES_{name}"] for name in ("USER", "PASSWORD", "DB"))
    seed = (f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{password}'", f"CREATE DATABASE {database} OWNER {user}")
    return Postgres(settings=dict(option.split("=", 1) for option in options[1::2]), seed=seed)


def _redis() -> Redis:
    program, *options = SERVICES["redis"]["command"]
    assert program == "redis-server"
    names = (name.removeprefix("--") for name in options[::2])
    return Redis(password="", settings=dict(zip(names, options[1::2], strict=True)))


def _rabbitmq() -> RabbitMQ:
    environment = SERVICES["rabbitmq"]["environment"]
    user, password = environment["RABBITMQ_DEFAULT_USER"], environment["RABBITMQ_DEFAULT_PASS"]
    return RabbitMQ(users=[User(user, password, tags="administrator")])


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("deployed")
    with found(), _postgres() as postgres, _redis() as redis, _rabbitmq() as rabbitmq, reserve_port() as reserved:
        port = int(reserved.getsockname()[1])
        ports = {"postgres:5432": postgres.port, "redis:6379": redis.port, "rabbitmq:5672": rabbitmq.port}
        elsewhere = {there: f"{HOST}:{here}" for there, here in {**ports, "application:8000": port, "0.0.0.0:8000": port}.items()}
        application, worker = Container("application", elsewhere), Container("worker", elsewhere)
        _first_start_of_postgres(application.environment()["DATABASE_URL"])
        with application, worker:
            eventually_now(lambda: worker.said(" ready."), PATIENCE_SECONDS)
            with Running(folder, None, _exporters_environment(elsewhere)) as exporter:
                yield Deployed(postgres, redis, rabbitmq, application, worker, exporter, port)


def _first_start_of_postgres(url: str) -> None:
    """Runs the script that the image would run then, in the database that it would make."""
    script = in_repository("postgres", "/docker-entrypoint-initdb.d/10-pg_stat_statements.sql")
    assert script is not None
    asyncio.run(execute(url, script.read_text()))


def _exporters_environment(elsewhere: Mapping[str, str]) -> dict[str, str]:
    """Its own, and where the file that is mounted stands here."""
    mounted = in_repository("exporter", str(SYSTEM_PATH))
    environment = {name: moved(value, elsewhere) for name, value in SERVICES["exporter"]["environment"].items()}
    return {**environment, "EXPORTER_CONFIG": str(mounted)}


def test_every_target_is_healthy_and_trades_are_counted(deployed: Deployed) -> None:
    """From `docker compose up` to numbers without a line of configuration."""
    exporter = deployed.exporter
    eventually_now(lambda: exporter.health()["status"] == "healthy", PATIENCE_SECONDS)
    health = {name: probe["status"] for name, probe in exporter.health()["probes"].items()}
    assert health == {**dict.fromkeys(("db", "redis", "rabbitmq", "celery", "app"), "healthy"), "binance": "unknown"}
    trades = eventually_now(lambda: exporter.samples("trades_executed_total"), PATIENCE_SECONDS)
    assert sum(trades.values()) > 100
    assert eventually_now(lambda: exporter.samples('celery_tasks_total{probe="celery"'), PATIENCE_SECONDS)
    assert exporter.samples("rabbitmq_queue_messages_ready")


def test_the_application_made_its_tables_and_the_worker_settles(deployed: Deployed) -> None:
    """The database is new, and nobody but these two has been there."""
    settled = "SELECT count(*) FROM trades WHERE settled_at IS NOT NULL"
    assert eventually_now(lambda: asyncio.run(fetch(deployed.database, settled))[0][0] > 1, PATIENCE_SECONDS)


def test_statements_are_counted(deployed: Deployed) -> None:
    """The library without the extension counts and shows nobody; the extension without the library is an error."""
    query = "SELECT sum(calls) > 0 FROM pg_stat_statements WHERE query LIKE 'INSERT INTO trades%'"
    assert eventually_now(lambda: asyncio.run(fetch(deployed.database, query)) == [(True,)], PATIENCE_SECONDS)


def _check(service: str, *more: str, **environment: str) -> int:
    """The exit status of a health check's command; `more` follow its program."""
    _, program, *arguments = SERVICES[service]["healthcheck"]["test"]
    path = shutil.which(program)
    assert path, f"{program} is missing"
    return subprocess.run([path, *more, *arguments], env=environment, capture_output=True, timeout=30).returncode


def test_the_health_check_of_postgres_tells_good_from_bad(deployed: Deployed) -> None:
    """The application waits for it."""
    assert _check("postgres", PGPORT=str(deployed.postgres.port)) == 0
    with closed_port() as port:
        assert _check("postgres", PGPORT=str(port)) != 0


def test_the_health_check_of_redis_takes_an_error_for_bad(deployed: Deployed) -> None:
    """A server that loads its data answers, with an error; redis-cli by itself calls that a success."""
    assert _check("redis", "-p", str(deployed.redis.port)) == 0
    locked = start_redis(password="secret")
    try:
        assert _check("redis", "-p", str(locked.port)) != 0
    finally:
        locked.close()


def test_the_health_check_of_rabbitmq_tells_good_from_bad(deployed: Deployed) -> None:
    """A command of the image, here by the script that the image has; bad is a node that is not there."""
    server = deployed.rabbitmq
    codes = []
    for node in (server.node, "nobody@localhost"):
        _, program, *arguments = SERVICES["rabbitmq"]["healthcheck"]["test"]
        checked = subprocess.run(
            [str(server._scripts / program), *arguments],
            env={**server.environment(), "RABBITMQ_NODENAME": node},
            user=server.account.uid,
            group=server.account.gid,
            cwd=server.folder,
            capture_output=True,
            timeout=30,
        )
        codes.append(checked.returncode)
    assert codes[0] == 0 != codes[1]


def test_the_health_check_of_the_application_asks_the_application(deployed: Deployed) -> None:
    """The image's own would ask for an exporter that is not there."""
    _, *command = SERVICES["application"]["healthcheck"]["test"]
    with closed_port() as closed:
        codes = [
            subprocess.run(
                programs_of_ours([word.replace(":8000", f":{port}") for word in command]),
                env=deployed.application.environment(),
                capture_output=True,
                timeout=30,
            ).returncode
            for port in (deployed.port, closed)
        ]
    assert codes == [0, 1]


def test_application_and_worker_end_before_docker_would_kill_them(deployed: Deployed) -> None:
    """An order that was half done is done; the broker hangs meanwhile for the application, which has to end all the same."""
    deployed.rabbitmq.freeze()
    try:
        assert _seconds_to_stop(deployed.application) < GRACE_SECONDS
    finally:
        deployed.rabbitmq.thaw()
    assert _seconds_to_stop(deployed.worker) < GRACE_SECONDS
    deployed.application.start()
    deployed.worker.start()
    eventually_now(lambda: deployed.worker.said(" ready."), PATIENCE_SECONDS)


def _seconds_to_stop(container: Container) -> float:
    began = time.monotonic()
    container.stop(2 * GRACE_SECONDS)
    return time.monotonic() - began


def test_prometheus_takes_the_options_and_keeps_thirty_days(tmp_path: Path) -> None:
    """How long it keeps data is an option alone: nothing in its configuration would say that it is missing."""
    program = shutil.which("prometheus")
    assert program, "prometheus is missing; as root: apt-get install -y --no-install-recommends prometheus"
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    here = {"/etc/prometheus/": f"{tmp_path}/", "path=/prometheus": f"path={tmp_path}/data"}
    options = [moved(option, here) for option in SERVICES["prometheus"]["command"]]
    address = f"{HOST}:{free_port()}"
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen([program, *options, f"--web.listen-address={address}"], stderr=log, stdout=log) as prometheus:
        try:
            flags = eventually_now(lambda: _flags(address), PATIENCE_SECONDS)
            checked = urllib.request.Request(_checked_url("prometheus").replace("127.0.0.1:9090", address), method="HEAD")
            with urllib.request.urlopen(checked, timeout=5) as answer:
                assert answer.status == 200
        finally:
            prometheus.kill()
    assert flags["storage.tsdb.retention.time"] == "30d"
    assert flags["web.enable-lifecycle"] == "false", "everybody who may look might end it"


def _checked_url(service: str) -> str:
    """What its health check asks for; busybox, whose wget it is, sends a HEAD for --spider."""
    _, program, *options, url = SERVICES[service]["healthcheck"]["test"]
    assert (program, options) == ("wget", ["-q", "--spider"])
    return str(url)


def _flags(address: str) -> dict[str, str]:
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/status/flags", timeout=2) as answer:
            data = json.load(answer)["data"]
    except OSError:
        return {}
    assert isinstance(data, dict)
    return data
