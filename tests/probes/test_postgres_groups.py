"""The built-in collectors on a real server: plausible against direct queries, honest where a right lacks."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from exporter.demo.servers import Postgres
from exporter.drivers.dns import Resolver
from exporter.model import Capability, Kind, Reading
from exporter.probes.base import Runtime
from exporter.probes.postgres.groups import GROUPS
from exporter.probes.postgres.probe import PostgresProbe
from exporter.probes.postgres.settings import PostgresSettings
from tests.servers import execute, fetch


@pytest.fixture
async def probe(database: str) -> AsyncIterator[PostgresProbe]:
    """A probe of the fresh database, as superuser."""
    made = probe_of(database)
    yield made
    await made.aclose()


def probe_of(url: str, **keys: object) -> PostgresProbe:
    settings = PostgresSettings.model_validate({"type": "postgres", "url": url, **keys})
    return PostgresProbe("db", settings, Runtime("default", Resolver()))


async def read(probe: PostgresProbe, group: str) -> Reading:
    (collector,) = (collector for collector in probe.collectors() if collector.name == group)
    return await collector.run()


def values(reading: Reading, metric: str) -> dict[tuple[str, ...], object]:
    (family,) = (family for family in reading.families if family.metric.name == metric)
    return dict(family.rows)


async def test_every_declared_metric_is_read_with_its_labels(probe: PostgresProbe) -> None:
    """A declared name that never comes, or labels that do not fit, would break dashboards made from the declarations."""
    later = {"pg_settings_reserved_connections"}  # PostgreSQL 16
    for name, group in GROUPS.items():
        families = (await read(probe, name)).families
        assert [f.metric for f in families] == [m for m in group.metrics if m.name not in later]
        assert all(len(labels) == len(f.metric.labels) for f in families for labels, _ in f.rows)


async def test_database_agrees_with_the_server(probe: PostgresProbe, database: str) -> None:
    """Counters pass through, the size is the server's."""
    await execute(database, "CREATE TABLE t AS SELECT g FROM generate_series(1, 100) AS g")
    name = database.rpartition("/")[2]
    reading = await read(probe, "database")
    ((oid, size),) = await fetch(database, "SELECT oid::text, pg_database_size(oid) FROM pg_database WHERE datname = $1", name)
    assert values(reading, "pg_database_size_bytes")[(name,)] == size
    assert values(reading, "pg_stat_database_numbackends")[(oid, name)] in (1, 2)  # ours, and autovacuum may look in
    assert values(reading, "pg_stat_database_stats_reset") == {}  # never reset: absent, not 0
    commits = values(reading, "pg_stat_database_xact_commit")[(oid, name)]
    ((later,),) = await fetch(database, "SELECT xact_commit FROM pg_stat_database WHERE datname = $1", name)
    assert isinstance(commits, int)
    assert 0 < commits <= later
    assert reading.capabilities == (Capability("database_size", True),)


async def test_activity_counts_sessions_by_state(probe: PostgresProbe, database: str) -> None:
    """An idle transaction is what locks a system up; a state in which nobody is counts 0."""
    name = database.rpartition("/")[2]
    holder = await asyncpg.connect(database, ssl=False)
    await holder.execute("BEGIN; SELECT pg_sleep(0.05)")
    reading = await read(probe, "activity")
    await holder.close()
    counts, durations = values(reading, "pg_stat_activity_count"), values(reading, "pg_stat_activity_max_tx_duration")
    mine = {state: count for (datname, state), count in counts.items() if datname == name}
    states = {"active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled"}
    assert set(mine) == states
    assert {state for state, count in mine.items() if count} - {"active"} == {"idle in transaction"}  # autovacuum is active
    lasted = durations[(name, "idle in transaction")]
    assert isinstance(lasted, float)
    assert 0.05 <= lasted < 10
    assert durations[(name, "idle")] == 0


async def test_locks_count_those_of_others(probe: PostgresProbe, database: str) -> None:
    """Our own session's locks would be there at every look."""
    name = database.rpartition("/")[2]
    await execute(database, "CREATE TABLE t (i int)")
    holder = await asyncpg.connect(database, ssl=False)
    await holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    held = values(await read(probe, "locks"), "pg_locks_count")
    await holder.close()
    mine = {mode: count for (datname, mode), count in held.items() if datname == name}
    assert len(mine) == 9
    assert mine["accessexclusivelock"] == 1
    assert mine["accesssharelock"] == 0


async def test_settings_are_the_servers(probe: PostgresProbe, database: str) -> None:
    """What connection counts are measured against."""
    reading = await read(probe, "settings")
    for family in reading.families[:-1]:
        name = family.metric.name.removeprefix("pg_settings_")
        assert await fetch(database, "SELECT current_setting($1)::bigint", name) == [(dict(family.rows)[()],)]
    ((version, short),) = await fetch(database, "SELECT version(), split_part(current_setting('server_version'), ' ', 1) || '.0'")
    assert values(reading, "pg_static") == {(version, short): 1}


async def test_a_primary_is_no_replica(probe: PostgresProbe) -> None:
    """Its lag is 0; it has replayed nothing, which is not 0 seconds ago."""
    reading = await read(probe, "replication")
    assert values(reading, "pg_replication_is_replica") == {(): 0}
    assert values(reading, "pg_replication_lag_seconds") == {(): 0}
    assert values(reading, "pg_replication_last_replay_seconds") == {}


async def test_without_rights_what_is_hidden_is_told(postgres_server: Postgres, database: str) -> None:
    """Permission trouble must never read as zero: the rest is there, and the capability names the GRANT."""
    name = database.rpartition("/")[2]
    await execute(
        database,
        'DROP ROLE IF EXISTS "wat""cher"',
        'CREATE ROLE "wat""cher" LOGIN PASSWORD \'p\'',
        "CREATE DATABASE hidden",
        "REVOKE CONNECT ON DATABASE hidden FROM PUBLIC",
    )
    probe = probe_of(database, username='wat"cher', password="p")
    holder = await asyncpg.connect(database, ssl=False)
    activity, sizes = await read(probe, "activity"), await read(probe, "database")
    await holder.close()
    await probe.aclose()
    await execute(database, "DROP DATABASE hidden", 'DROP ROLE "wat""cher"')
    assert values(activity, "pg_stat_activity_count") == {(name, "unknown"): 1}
    assert values(activity, "pg_stat_activity_max_tx_duration") == {}
    assert activity.capabilities == (Capability("all_sessions", False, 'GRANT pg_read_all_stats TO "wat""cher"'),)
    assert ("hidden",) not in values(sizes, "pg_database_size_bytes")
    assert (name,) in values(sizes, "pg_database_size_bytes")
    cure = 'GRANT pg_read_all_stats TO "wat""cher", or GRANT CONNECT on each database'
    assert sizes.capabilities == (Capability("database_size", False, cure),)


async def test_pg_read_all_stats_is_enough(postgres_server: Postgres, database: str) -> None:
    """The grant that the capability asks for brings everything; a superuser is not needed."""
    await execute(
        database, "DROP ROLE IF EXISTS monitor", "CREATE ROLE monitor LOGIN PASSWORD 'p'", "GRANT pg_read_all_stats TO monitor"
    )
    probe = probe_of(database, username="monitor", password="p")
    readings = [await read(probe, group) for group in GROUPS]
    await probe.aclose()
    assert all(capability.available for reading in readings for capability in reading.capabilities)


def test_columns_follow_the_servers_version() -> None:
    """Only 15 runs here; what other versions lack is known from their manuals."""
    (statistics, _), (settings, _) = GROUPS["database"].views, GROUPS["settings"].views
    for version, expected in ((100023, False), (130014, False), (140000, True), (180001, True)):
        assert ("session_time" in statistics.statement(version)) is expected
    for version, expected in ((150018, False), (160000, True)):
        assert ("'reserved_connections'" in settings.statement(version)) is expected


def test_help_names_the_source_and_kinds_fit() -> None:
    """A reader of HELP learns what it is and where it comes from."""
    for group in GROUPS.values():
        for metric in group.metrics:
            assert metric.help.endswith(".")
            assert metric.kind in (Kind.GAUGE, Kind.COUNTER)
            assert "from " in metric.help or metric.name == "pg_static"
