"""The probe on a real server: what a check tells, how many connections it holds, and that it heals by itself."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from exporter.demo.servers import HOST, Postgres
from exporter.drivers.dns import Resolver
from exporter.errors import ProbeError
from exporter.model import CHECK, PoolUse, Reading, Reason
from exporter.probes.base import Runtime
from exporter.probes.postgres.probe import PostgresProbe
from exporter.probes.postgres.settings import PostgresSettings
from tests.faults import Proxy, silent
from tests.servers import eventually, execute, fetch, nothing_left

StartPostgres = Callable[..., Awaitable[Postgres]]

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sidecar-exporter'"


@asynccontextmanager
async def probing(url: str, **keys: object) -> AsyncIterator[PostgresProbe]:
    settings = PostgresSettings.model_validate({"type": "postgres", "url": url, **keys})
    probe = PostgresProbe("db", settings, Runtime("default", Resolver()))
    try:
        yield probe
    finally:
        await probe.aclose()


def query(sql: str, *labels: str, value: str = "n", kind: str = "gauge", **keys: object) -> dict[str, object]:
    metrics = {f"{value}_metric": {"type": kind, "help": "A number.", "value": value, "labels": labels}}
    return {"sql": sql, "metrics": metrics, **keys}


async def collect(probe: PostgresProbe, name: str) -> Reading:
    (collector,) = (collector for collector in probe.collectors() if collector.name == name)
    return await collector.run()


async def within(probe: PostgresProbe, name: str, run: Callable[[], Awaitable[Reading]], seconds: float) -> Reading | Reason:
    """One run as the engine does it: at the deadline the task is cancelled and the run's connections are dropped."""
    task = asyncio.ensure_future(run())
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(task)
    except ProbeError as error:
        return error.reason
    except TimeoutError:
        task.cancel()
        probe.drop(name)
        await asyncio.wait([task], timeout=1)
        assert task.done(), "the cancel was swallowed"
        return Reason.TIMEOUT


# --- the check --------------------------------------------------------------------------------------------------------------


async def test_a_check_tells_who_answered(database: str) -> None:
    """Small facts for /health, none of them a secret."""
    async with probing(database) as probe:
        reading = await probe.check()
    ((version,),) = await fetch(database, "SELECT split_part(current_setting('server_version'), ' ', 1)")
    assert reading.detail == {
        "version": version,
        "role": "primary",
        "database": database.rpartition("/")[2],
        "tls": False,
        "pool": "1 of 3 connections",
    }
    assert (reading.families, reading.degraded) == ((), None)


async def test_a_check_uses_one_connection_again(database: str) -> None:
    """A connection for each check would cost the server a process each time."""
    async with probing(database) as probe:
        for _ in range(3):
            await probe.check()
        assert await fetch(database, f"{OURS} AND datname = current_database()") == [(1,)]
        assert probe.pool() == PoolUse(1, 0, 3)
    await eventually(lambda: _gone(database), within=5)


async def _gone(url: str) -> bool:
    return await fetch(url, f"{OURS} AND datname = current_database()") == [(0,)]


async def test_a_standby_is_told_and_so_is_its_promotion(private_postgres: StartPostgres) -> None:
    """A promotion ends no session, so what was read at the login would be told for ever."""
    server = await private_postgres()
    await asyncio.to_thread(server.stop)
    server.write(server.data / "standby.signal", b"")
    await asyncio.to_thread(server.start)
    async with probing(server.url) as probe:
        assert (await probe.check()).detail["role"] == "standby"
        families = {family.metric.name: family.rows for family in (await collect(probe, "replication")).families}
        assert families["pg_replication_is_replica"] == (((), 1),)
        assert families["pg_replication_last_replay_seconds"] == ()  # nothing was ever replayed here
        await execute(server.url, "SELECT pg_promote()")
        await eventually(lambda: _role(probe, "primary"), within=10)
        families = {family.metric.name: family.rows for family in (await collect(probe, "replication")).families}
        assert (families["pg_replication_is_replica"], families["pg_replication_lag_seconds"]) == ((((), 0),), (((), 0),))


async def _role(probe: PostgresProbe, role: str) -> bool:
    return (await probe.check()).detail["role"] == role


# --- collectors and queries -------------------------------------------------------------------------------------------------


async def test_collectors_are_the_groups_and_the_queries(database: str) -> None:
    """Each with its own schedule, in the order written."""
    queries = {"slow": query("SELECT 1 AS n", interval="1m", timeout="20s")}
    async with probing(database, collect={"locks": {"interval": "5s"}, "settings": None}, queries=queries) as probe:
        assert [(c.name, c.interval_seconds, c.timeout_seconds) for c in probe.collectors()] == [
            ("locks", 5, 5),
            ("settings", 15, 5),
            ("slow", 60, 20),
        ]


async def test_a_query_becomes_gauges_and_counters(database: str) -> None:
    """The way trades come out of the platform's own table: labels, exact numbers, an enum, a NULL."""
    await execute(
        database,
        "CREATE TYPE side AS ENUM ('buy', 'sell')",
        "CREATE TABLE trades (side side, symbol text, profit numeric)",
        "INSERT INTO trades VALUES ('buy', 'BTC', 1.5), ('buy', 'BTC', 2.5), ('sell', NULL, NULL)",
    )
    sql = "SELECT side, symbol, count(*) AS total, sum(profit) AS profit FROM trades GROUP BY side, symbol ORDER BY side"
    metrics = {
        "trades_total": {"type": "counter", "help": "Trades.", "value": "total", "labels": ["side", "symbol"]},
        "profit_usd": {"type": "gauge", "help": "Profit.", "value": "profit", "labels": ["symbol"]},
    }
    async with probing(database, queries={"trades": {"sql": sql, "metrics": metrics}}) as probe:
        reading = await collect(probe, "trades")
    assert [(family.metric.name, str(family.metric.kind), family.rows) for family in reading.families] == [
        ("trades_total", "counter", ((("buy", "BTC"), 2), (("sell", ""), 1))),
        ("profit_usd", "gauge", ((("BTC",), 4),)),
    ]


async def test_a_wrong_query_costs_neither_the_others_nor_a_connection(database: str) -> None:
    """Named with its query; the shared connection goes on."""
    queries = {"wrong": query("SELECT 1 AS other"), "right": query("SELECT 1 AS n")}
    async with probing(database, queries=queries) as probe:
        for _ in range(3):
            with pytest.raises(ProbeError) as caught:
                await collect(probe, "wrong")
            assert str(caught.value) == "query wrong: no column n; it returns other"
            assert (await collect(probe, "right")).families[0].rows == (((), 1),)
        assert probe.pool() == PoolUse(1, 0, 3)


async def test_a_mistaken_select_is_refused_by_number_and_by_size(database: str) -> None:
    """A million rows, or gigabytes in a few: neither reaches our memory."""
    queries = {
        "many": query("SELECT g AS n, g AS l FROM generate_series(1, 1000000) AS g", "l"),
        "large": query("SELECT g AS n, repeat('x', 1000000) AS l FROM generate_series(1, 1000) AS g", "l"),
    }
    async with probing(database, queries=queries, max_series=5) as probe:
        for name, message in (("many", "more than 10005 rows; aggregate them"), ("large", "an answer above 16 MiB;")):
            with pytest.raises(ProbeError, match=message) as caught:
                await collect(probe, name)
            assert caught.value.reason is Reason.CONFIG


async def test_what_was_read_before_a_failure_is_kept(database: str) -> None:
    """One view of a group that fails must not take the families of the other with it."""
    await execute(database, "DROP ROLE IF EXISTS halting", "CREATE ROLE halting LOGIN PASSWORD 'p'")
    async with probing(database, username="halting", password="p", collect=["database"]) as probe:
        await execute(database, "REVOKE SELECT ON pg_database FROM PUBLIC")
        with pytest.raises(ProbeError) as caught:
            await collect(probe, "database")
    assert caught.value.reason is Reason.FORBIDDEN
    assert caught.value.reading is not None
    assert [family.metric.name for family in caught.value.reading.families][:2] == [
        "pg_stat_database_numbackends",
        "pg_stat_database_xact_commit",
    ]


# --- never a burden ---------------------------------------------------------------------------------------------------------


async def test_the_pools_bound_holds_while_a_table_is_locked(database: str) -> None:
    """Everything is due and hangs on the lock, deadlines pass: never more connections than the pool, and each says timeout."""
    await execute(database, "CREATE TABLE t AS SELECT 1 AS n")
    queries = {f"q{i}": query("SELECT n FROM t", interval="1s", timeout="600ms") for i in range(6)}
    queries["asleep"] = query("SELECT 1 AS n FROM pg_sleep(60)", interval="1s", timeout="600ms")
    most = 0

    async def watch(monitor: "asyncpg.Connection[asyncpg.Record]") -> None:
        nonlocal most
        while True:
            most = max(most, await monitor.fetchval(f"{OURS} AND datname = current_database()"))
            await asyncio.sleep(0.002)

    async def due(probe: PostgresProbe) -> list[tuple[str, Reading | Reason]]:
        runs = [(c.name, c.run, c.timeout_seconds) for c in probe.collectors()]
        jobs = (within(probe, name, run, seconds) for name, run, seconds in (*runs, (CHECK, probe.check, 2.0)))
        return list(zip([*(name for name, _, _ in runs), CHECK], await asyncio.gather(*jobs), strict=True))

    async with AsyncExitStack() as stack:
        holder, monitor = [await asyncpg.connect(database, ssl=False) for _ in range(2)]
        stack.push_async_callback(monitor.close)
        stack.push_async_callback(holder.close)
        probe = await stack.enter_async_context(probing(database, queries=queries, pool={"size": 3}))
        await holder.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        watcher = asyncio.create_task(watch(monitor))
        for _ in range(3):
            outcomes = dict(await due(probe))
            assert {outcome for name, outcome in outcomes.items() if name in queries} == {Reason.TIMEOUT}
            assert isinstance(outcomes[CHECK], Reading)
            assert isinstance(outcomes["locks"], Reading)
        watcher.cancel()
        assert most == 3
        await holder.execute("ROLLBACK")
        assert isinstance(dict(await due(probe))["q0"], Reading)


async def test_every_statement_in_the_servers_log_begins_with_our_comment(private_postgres: StartPostgres) -> None:
    """An administrator tells ours apart by it; asyncpg asks about enums, arrays and composites, unless kept from it."""
    server = await private_postgres(
        settings={"log_statement": "all", "log_min_duration_statement": "0", "log_line_prefix": "<%a> "}
    )
    await execute(
        server.url,
        "CREATE TYPE mood AS ENUM ('ok')",
        "CREATE TYPE pair AS (m mood, i int)",
        "CREATE DOMAIN few AS int",
        "CREATE TABLE t (m mood, ms mood[], p pair, n few, r int4range)",
        "INSERT INTO t VALUES ('ok', '{ok}', '(ok,1)', 1, '[1,2)')",
    )
    async with probing(server.url, queries={"typed": query("SELECT m, ms, p, r, n FROM t", "m", "ms", "p", "r")}) as probe:
        await probe.check()
        for collector in probe.collectors():
            await collector.run()
        assert (await collect(probe, "typed")).families[0].rows == ((("ok", "{ok}", "(ok,1)", "[1,2)"), 1),)
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("<sidecar-exporter>")]
    told = [line for line in lines if not re.search(r"LOG:  duration: [\d.]+ ms$", line)]  # how long the line before took
    assert len(told) > 40
    ours = re.compile(
        r"<sidecar-exporter> LOG:  (duration: [\d.]+ ms  )?(statement|(parse|bind|execute) \S+): /\* sidecar-exporter \*/ "
    )
    assert [line for line in told if not ours.match(line)] == []


# --- faults -----------------------------------------------------------------------------------------------------------------


async def test_a_killed_server_is_told_and_its_return_is_noticed_by_the_next_check(private_postgres: StartPostgres) -> None:
    """No connection from before may stand in the way."""
    server = await private_postgres()
    async with probing(server.url) as probe:
        await probe.check()
        await collect(probe, "locks")
        await asyncio.to_thread(server.kill)
        with pytest.raises(ProbeError) as caught:
            await probe.check()
        assert (caught.value.reason, str(caught.value)) == (
            Reason.REFUSED,
            f"connect {HOST}:{server.port}: connection refused",
        )
        await asyncio.to_thread(server.start)
        await probe.check()
        assert isinstance(await collect(probe, "locks"), Reading)


async def test_a_stopped_server_says_goodbye_and_is_back_at_once(private_postgres: StartPostgres) -> None:
    """A restart tells every session 57P01: that one is dropped while idle, and no run is lost to it."""
    server = await private_postgres()
    async with probing(server.url) as probe:
        await probe.check()
        await asyncio.to_thread(server.restart)
        await probe.check()


async def test_a_frozen_server_costs_a_deadline_and_no_descriptor(private_postgres: StartPostgres) -> None:
    """Connections stay open and silent: each run ends at its deadline, and everything heals when the server goes on."""
    server = await private_postgres()
    async with nothing_left(), probing(server.url) as probe:
        await probe.check()
        await collect(probe, "locks")
        await asyncio.to_thread(server.freeze)
        for _ in range(3):  # on the kept connection first, then while connecting
            assert await within(probe, CHECK, probe.check, 0.2) is Reason.TIMEOUT
            assert await within(probe, "locks", lambda: collect(probe, "locks"), 0.2) is Reason.TIMEOUT
        assert probe.pool() == PoolUse(0, 0, 3)
        await asyncio.to_thread(server.thaw)
        assert isinstance(await within(probe, CHECK, probe.check, 5), Reading)
        assert isinstance(await within(probe, "locks", lambda: collect(probe, "locks"), 5), Reading)


async def test_a_half_open_connection_is_replaced(postgres_server: Postgres) -> None:
    """A firewall forgot it: nothing will ever come. One deadline, then a new one; idle ones of before are not believed either."""
    async with nothing_left(), Proxy(postgres_server.port) as proxy:
        url = f"postgresql://postgres:{postgres_server.password}@{HOST}:{proxy.port}/postgres"
        async with probing(url) as probe:
            await probe.check()
            await collect(probe, "locks")
            proxy.half_open()
            assert await within(probe, CHECK, probe.check, 0.2) is Reason.TIMEOUT
            assert probe.pool() == PoolUse(0, 0, 3)
            assert isinstance(await within(probe, CHECK, probe.check, 5), Reading)
            assert isinstance(await within(probe, "locks", lambda: collect(probe, "locks"), 5), Reading)


async def test_cancelled_runs_leave_nothing(database: str) -> None:
    """A run may be cancelled anywhere: while connecting, logging in, asking; fifty offsets, no descriptor, no place lost."""
    async with nothing_left(), probing(database) as probe:
        for offset in range(50):
            task = asyncio.ensure_future(probe.check() if offset % 2 else collect(probe, "settings"))
            for _ in range(offset):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.done()
        assert probe.pool().used == 0
        await probe.check()
    async with nothing_left(), silent() as port, probing(f"postgresql://u:p@{HOST}:{port}/d") as probe:
        assert await within(probe, CHECK, probe.check, 0.1) is Reason.TIMEOUT


async def test_closing_ends_every_connection(database: str) -> None:
    """Shutdown leaves no session behind, not even one in use."""
    async with probing(database, queries={"asleep": query("SELECT 1 AS n FROM pg_sleep(60)")}) as probe:
        await probe.check()
        task = asyncio.ensure_future(collect(probe, "asleep"))
        await eventually(lambda: probe.pool().used == 1, within=5)
        await eventually(lambda: _asleep(database), within=5)
        await probe.aclose()
        await asyncio.wait([task], timeout=5)
        assert isinstance(task.exception(), ProbeError)
        assert probe.pool() == PoolUse(0, 0, 3)


async def _asleep(url: str) -> bool:
    return await fetch(url, f"{OURS} AND state = 'active' AND query LIKE '%pg_sleep%'") == [(1,)]


async def test_a_changed_right_is_seen_on_the_next_connection(database: str) -> None:
    """A capability follows the GRANT that its cure named, without a restart."""
    await execute(database, "DROP ROLE IF EXISTS learner", "CREATE ROLE learner LOGIN PASSWORD 'p'")
    async with probing(database, username="learner", password="p") as probe:
        assert [c.available for c in (await collect(probe, "activity")).capabilities] == [False]
        await execute(database, "GRANT pg_read_all_stats TO learner")
        probe.drop(CHECK)
        assert [c.available for c in (await collect(probe, "activity")).capabilities] == [True]
