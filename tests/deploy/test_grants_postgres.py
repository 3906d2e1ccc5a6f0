"""`deploy/grants/postgres.sql`, applied by the real psql: what its login reads, what each line is for, and what it keeps out."""

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import asyncpg
import pytest

from exporter.config import load
from exporter.demo.servers import HOST, Postgres
from exporter.demo.trading.schema import seed
from exporter.drivers.dns import Resolver
from exporter.errors import ProbeError
from exporter.probes.base import Runtime
from exporter.probes.pooled import PoolSettings
from exporter.probes.postgres.probe import PostgresProbe
from exporter.probes.postgres.settings import PostgresSettings
from exporter.secret import Secret
from tests.deploy.granted import GRANTS, LOGIN, PASSWORD, ROOT, grant_postgres, lost, only_looks_at_postgres, rights
from tests.servers import execute, fetch

SQL = (GRANTS / "postgres.sql").read_text()
FEATURES = {"all_sessions", "database_size"}

URLS = {"DATABASE_URL": "postgresql://127.0.0.1/x", "REDIS_URL": "redis://127.0.0.1", "RABBITMQ_URL": "amqp://127.0.0.1"}
EXAMPLE = load(ROOT / "config.example.yaml", URLS).probes["db"]

WITHOUT = {
    "LOGIN": "ALTER ROLE exporter NOLOGIN",
    "CONNECT": "REVOKE CONNECT ON DATABASE {database} FROM exporter",
    "pg_read_all_stats": "REVOKE pg_read_all_stats FROM exporter",
    "SELECT": "REVOKE SELECT ON trades, opportunities FROM exporter",
}


@dataclass(frozen=True)
class Place:
    """A database with the example's tables, which nobody may enter who was not granted it."""

    server: Postgres
    database: str
    admin: str

    @property
    def url(self) -> str:
        """As the login that the file makes."""
        return f"postgresql://{LOGIN}:{quote(PASSWORD, safe='')}@{HOST}:{self.server.port}/{self.database}?sslmode=disable"

    @asynccontextmanager
    async def probing(self, **keys: object) -> AsyncIterator[PostgresProbe]:
        """The probe `db` of the example, with other keys if need be."""
        assert isinstance(EXAMPLE, PostgresSettings)
        probe = PostgresProbe("db", EXAMPLE.model_copy(update={"url": Secret(self.url), **keys}), Runtime("tests", Resolver()))
        try:
            yield probe
        finally:
            await probe.aclose()


@asynccontextmanager
async def locked(server: Postgres) -> AsyncIterator[str]:
    """A database that nobody may enter, by its name."""
    name = f"grants_{secrets.token_hex(4)}"
    await execute(server.url, f"CREATE DATABASE {name}", f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    yield name
    await execute(server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def place(postgres_server: Postgres) -> AsyncIterator[Place]:
    """Before anything is granted."""
    async with locked(postgres_server) as name:
        place = Place(postgres_server, name, postgres_server.url_of(name))
        await execute(place.admin, *seed("unused", "unused")[:2])
        yield place
    await execute(postgres_server.url, f"DROP ROLE IF EXISTS {LOGIN}")


@pytest.fixture
async def hidden(postgres_server: Postgres) -> AsyncIterator[None]:
    """There is a database beside, of which not even the size is everybody's affair."""
    async with locked(postgres_server):
        yield


@pytest.fixture
async def granted(place: Place) -> Place:
    """After the README's command; the login can do no more than look."""
    grant_postgres(place.server, place.database)
    await only_looks_at_postgres(place.admin, LOGIN)
    return place


@pytest.mark.usefixtures("hidden")
async def test_every_collector_reads_all_with_the_granted_login(granted: Place) -> None:
    """The five built in and the example's queries, and no capability lacks; a session of somebody else is seen into."""
    holder = await asyncpg.connect(granted.admin, ssl=False)
    async with granted.probing() as probe:
        assert await lost(probe) == frozenset()
        readings = {collector.name: await collector.run() for collector in probe.collectors()}
    await holder.close()
    assert len(readings) == 10
    assert {has.feature for reading in readings.values() for has in reading.capabilities if has.available} == FEATURES
    (counts,) = (family for family in readings["activity"].families if family.metric.name == "pg_stat_activity_count")
    sessions = {state: count for (database, state), count in counts.rows if database == granted.database}
    assert sessions["idle"] != 0
    assert "unknown" not in sessions


def test_every_right_of_the_file_has_its_row() -> None:
    """The README says what each is for; what follows shows it."""
    statements = re.sub(r"--.*", "", SQL)
    assert {*re.findall(r"GRANT (\w+)", statements), *re.findall(r"\bLOGIN\b", statements)} == rights("PostgreSQL").keys()


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize(("right", "names"), rights("PostgreSQL").items(), ids=rights("PostgreSQL"))
async def test_without_a_right_exactly_this_is_lost(granted: Place, right: str, names: frozenset[str]) -> None:
    """A right without which nothing is lost is one too many; and it is back when the file is applied again."""
    await execute(granted.admin, WITHOUT[right].format(database=granted.database))
    async with granted.probing() as probe:
        assert await lost(probe) == names
    grant_postgres(granted.server, granted.database)
    async with granted.probing() as probe:
        assert await lost(probe) == frozenset()


async def test_without_tables_nothing_of_them_is_needed(place: Place) -> None:
    """A database without the example's tables, and without a password: the file still applies, and changes no password."""
    grant_postgres(place.server, place.database)
    await execute(place.admin, "DROP TABLE trades, opportunities")
    grant_postgres(place.server, place.database, f"psql -d {place.database} -f deploy/grants/postgres.sql", SIDECAR_PASSWORD="")
    async with place.probing(queries={}) as probe:
        assert await lost(probe) == frozenset()


async def test_the_limit_leaves_room_for_a_second_process(granted: Place) -> None:
    """`exporter probe db` beside a running exporter, both with all their connections; a third would be one too many."""
    limit = 2 * PoolSettings().limit
    assert await fetch(granted.admin, "SELECT rolconnlimit FROM pg_roles WHERE rolname = $1", LOGIN) == [(limit,)]
    held = [await asyncpg.connect(granted.url, ssl=False) for _ in range(PoolSettings().limit)]
    async with granted.probing() as probe:
        assert await lost(probe) == frozenset()
    held += [await asyncpg.connect(granted.url, ssl=False) for _ in range(limit - len(held))]
    async with granted.probing() as probe:
        with pytest.raises(ProbeError, match="too many connections"):
            await probe.check()
    for connection in held:
        await connection.close()


async def test_the_login_writes_nothing_and_lets_go_of_what_is_lost(granted: Place) -> None:
    """For whoever else comes with it; where PUBLIC may make tables, as before PostgreSQL 15, too."""
    await execute(granted.admin, "GRANT CREATE ON SCHEMA public TO PUBLIC")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await execute(granted.url, "CREATE TABLE mine ()")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(granted.url, "SET default_transaction_read_only = off", "DELETE FROM trades")
    names = ("statement_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    assert [await fetch(granted.url, "SELECT current_setting($1)", name) for name in names] == [
        [("30s",)],
        [("30",)],
        [("10",)],
        [("3",)],
    ]


async def test_a_query_with_a_longer_timeout_of_its_own_is_not_cut(granted: Place) -> None:
    """The role's statement_timeout is for others: ours is set for each transaction."""
    await execute(granted.admin, f"ALTER ROLE {LOGIN} SET statement_timeout = '50ms'")
    metric = {"type": "gauge", "help": "Always 1.", "value": "n"}
    slow = {"sql": "SELECT 1 AS n, pg_sleep(0.2)", "metrics": {"slow": metric}, "timeout": "5s"}
    written = PostgresSettings.model_validate({"type": "postgres", "url": granted.url, "queries": {"slow": slow}})
    async with granted.probing(queries=written.queries) as probe:
        assert await lost(probe) == frozenset()


async def test_the_password_is_kept_nowhere(private_postgres: Callable[..., Awaitable[Postgres]]) -> None:
    """Many servers log DDL, and what pg_stat_statements keeps may be read by whoever may look, such as this login itself."""
    settings = {"log_statement": "ddl", "shared_preload_libraries": "pg_stat_statements"}
    server = await private_postgres(settings=settings, seed=["CREATE EXTENSION pg_stat_statements"])
    ways = {"SIDECAR_PASSWORD": "", "-v password": ' -v password="$WORD"'}
    for way, option in ways.items():
        word = f"{PASSWORD} {way}"
        given = {"SIDECAR_PASSWORD": "" if option else word, "WORD": word}
        grant_postgres(server, "postgres", f"psql -d postgres{option} -f deploy/grants/postgres.sql", **given)
        url = f"postgresql://{LOGIN}:{quote(word, safe='')}@{HOST}:{server.port}/postgres"
        kept = {text for (text,) in await fetch(url, "SELECT query FROM pg_stat_statements")}
        assert [text for text in kept if "set_config" in text] != []
        assert [text for text in kept if "l00k" in text] == []
    log = server.log.read_text()
    assert "ALTER ROLE exporter LOGIN" in log
    assert "l00k" not in log


@pytest.mark.parametrize("attribute", ["SUPERUSER", "CREATEROLE", "IN ROLE pg_monitor", "IN ROLE pg_write_all_data"])
async def test_a_login_that_can_do_more_does_not_pass_for_granted(granted: Place, attribute: str) -> None:
    """A test of rights that comes as a superuser proves nothing; the guard on ours is no formality."""
    name = f"boss_{secrets.token_hex(4)}"
    await execute(granted.admin, f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 6 {attribute}")
    if "IN ROLE" not in attribute:
        await execute(granted.admin, f"GRANT pg_read_all_stats TO {name}")
    with pytest.raises(AssertionError):
        await only_looks_at_postgres(granted.admin, name)
    await execute(granted.admin, f"DROP ROLE {name}")
