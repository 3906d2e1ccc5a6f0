"""Fixtures for all tests: one PostgreSQL per worker, a fresh database per test, private servers, and a guard on the loop."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from exporter.demo.servers import Postgres
from tests.servers import execute, start_postgres


@pytest.fixture(scope="session", autouse=True)
def _no_blocking_call() -> Iterator[None]:
    """Any blocking call that exporter code makes on a running loop raises; what a test itself does there is its own affair."""
    with blockbuster_ctx("exporter", excluded_modules=["exporter.demo"]) as guard:
        # asyncpg reads ~/.pgpass and looks for key files while it prepares a connection: local files, a few microseconds.
        for function in guard.functions.values():
            function.can_block_in("asyncpg/connect_utils.py", {"_parse_connect_dsn_and_args"})
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


@pytest.fixture
async def private_postgres() -> AsyncIterator[Callable[..., Awaitable[Postgres]]]:
    """Starts servers of the test's own, to freeze, kill or configure: `server = await private_postgres(settings={…})`."""
    started: list[Postgres] = []

    async def start(**options: Any) -> Postgres:
        server = await asyncio.to_thread(start_postgres, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        await asyncio.to_thread(server.close)
