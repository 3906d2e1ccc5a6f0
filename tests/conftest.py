"""Fixtures for all tests: one server of each kind per worker, a fresh database per test, private servers, a guard on the loop."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import trustme
from blockbuster import blockbuster_ctx

from exporter.demo.servers import CeleryWorker, Postgres, Program, RabbitMQ, Redis
from tests.brokers import rabbitmq_furniture, redis_furniture
from tests.servers import execute, start_postgres, start_rabbitmq, start_redis, started

P = TypeVar("P", bound=Program)
Starting = Callable[..., Awaitable[P]]
"""Starts a server of the test's own from the options of its class; it is closed after the test."""
Count = Callable[[str, int, int], None]
"""Has `what`, how many hold and of how many stand in the summary of the whole run: `count("schemas valid", 3, 3)`."""


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Counts of one name add up over all tests; a test calls it before it asserts, so that the shortfall is seen."""
    return lambda what, good, of: record_property("count", [what, good, of])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests counted, `panels with data 31/31`; from every worker, since reports carry it."""
    reports = [report for some in terminalreporter.stats.values() for report in some if getattr(report, "when", None) == "call"]
    sums: dict[str, tuple[int, int]] = {}
    for what, good, of in (value for report in reports for name, value in report.user_properties if name == "count"):
        goods, ofs = sums.get(what, (0, 0))
        sums[what] = goods + good, ofs + of
    for what, (good, of) in sorted(sums.items()):
        terminalreporter.write_line(f"{what} {good}/{of}")


@pytest.fixture(scope="session", autouse=True)
def _no_blocking_call() -> Iterator[None]:
    """Any blocking call that exporter code makes on a running loop raises; what a test itself does there is its own affair."""
    with blockbuster_ctx("exporter", excluded_modules=["exporter.demo"]) as guard:
        # asyncpg reads ~/.pgpass and looks for key files while it prepares a connection: local files, a few microseconds.
        for function in guard.functions.values():
            function.can_block_in("asyncpg/connect_utils.py", {"_parse_connect_dsn_and_args"})
            # /proc/self, which no disk is behind: microseconds
            function.can_block_in("prometheus_client/process_collector.py", {"collect"})
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """This worker's server, for tests that leave it running and unharmed."""
    server = start_postgres()
    yield server
    server.close()


@pytest.fixture
async def database(postgres_server: Postgres) -> AsyncIterator[str]:
    """The URL of a fresh, empty database on this worker's server."""
    name = f"t_{secrets.token_hex(4)}"
    await execute(postgres_server.url, f"CREATE DATABASE {name}")
    yield postgres_server.url_of(name)
    await execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def broker_authority() -> trustme.CA:
    """Who has signed the certificates of this worker's RabbitMQ and Redis."""
    return trustme.CA()


@pytest.fixture(scope="session")
def redis_server(broker_authority: trustme.CA) -> Iterator[Redis]:
    """This worker's server, for tests that leave it running and empty; it has 16 databases, and what stands in `tests.brokers`."""
    server = start_redis(**redis_furniture(broker_authority))
    yield server
    server.close()


@pytest.fixture(scope="session")
def rabbitmq_server(broker_authority: trustme.CA) -> Iterator[RabbitMQ]:
    """This worker's node, for tests that leave it running, and name what they declare as nobody else does.

    It has what stands in `tests.brokers`.
    """
    server = start_rabbitmq(**rabbitmq_furniture(broker_authority))
    yield server
    server.close()


@asynccontextmanager
async def _private(kind: Callable[..., P]) -> AsyncIterator[Starting[P]]:
    closing: list[P] = []

    async def start(*arguments: Any, **options: Any) -> P:
        server: P = await asyncio.to_thread(started, kind, *arguments, **options)
        closing.append(server)
        return server

    yield start
    for server in reversed(closing):
        await asyncio.to_thread(server.close)


@pytest.fixture
async def private_postgres() -> AsyncIterator[Starting[Postgres]]:
    """Starts servers of the test's own, to freeze, kill or configure: `server = await private_postgres(settings={…})`."""
    async with _private(Postgres) as start:
        yield start


@pytest.fixture
async def private_redis() -> AsyncIterator[Starting[Redis]]:
    """As `private_postgres`, of `Redis`."""
    async with _private(Redis) as start:
        yield start


@pytest.fixture
async def private_rabbitmq() -> AsyncIterator[Starting[RabbitMQ]]:
    """As `private_postgres`, of `RabbitMQ`."""
    async with _private(RabbitMQ) as start:
        yield start


@pytest.fixture
async def private_worker() -> AsyncIterator[Starting[CeleryWorker]]:
    """Starts Celery workers of the test's own: `await private_worker(url, "celery_app:app", places=[ROOT / "tests"], …)`."""
    async with _private(CeleryWorker) as start:
        yield start
