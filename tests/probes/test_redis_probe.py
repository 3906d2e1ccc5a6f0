"""The probe on real servers: what a check tells in each state of a server, what INFO gives, and that it heals by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import trustme
from redis import Redis as Client

from exporter.demo.servers import HOST, Certificate, Redis
from exporter.drivers.dns import Resolver
from exporter.drivers.kept import Lease
from exporter.drivers.redis import Endpoint, Login, connect
from exporter.errors import ProbeError
from exporter.model import CHECK, Capability, Distribution, PoolUse, Reading, Reason
from exporter.probes.base import Runtime
from exporter.probes.redis.probe import RedisProbe
from exporter.probes.redis.settings import RedisSettings
from exporter.secret import Secret
from tests.faults import Proxy, garbage, saying, silent
from tests.servers import eventually, nothing_left, start_redis

StartRedis = Callable[..., Awaitable[Redis]]

ACL = (
    "user looker on >l00k-word -@all +ping +info +select",
    "user pinger on >p1ng-word -@all +ping",
    "user reader on >r34d-word -@all +info",
)


@dataclass(frozen=True)
class Place:
    """A server with users and TLS, and the file that its certificate is verified by."""

    redis: Redis
    ca_file: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    authority = trustme.CA()
    ca = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    issued = authority.issue_cert(HOST)
    with ExitStack() as stack:
        server = start_redis(acl=ACL, certificate=Certificate(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()))
        stack.callback(server.close)
        yield Place(server, str(ca))


@asynccontextmanager
async def probing(url: object = None, **keys: object) -> AsyncIterator[RedisProbe]:
    settings = RedisSettings.model_validate({"type": "redis", "url": url, **keys})
    probe = RedisProbe("cache", settings, Runtime("default", Resolver()))
    try:
        yield probe
    finally:
        await probe.aclose()


async def collect(probe: RedisProbe) -> Reading:
    (collector,) = probe.collectors()
    return await collector.run()


async def series(probe: RedisProbe) -> dict[str, dict[tuple[str, ...], int | float]]:
    read: dict[str, dict[tuple[str, ...], int | float]] = {}
    for family in (await collect(probe)).families:
        read[family.metric.name] = {labels: value for labels, value in family.rows if not isinstance(value, Distribution)}
    return read


async def failure(run: Awaitable[Reading]) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await run
    return caught.value


async def within(probe: RedisProbe, name: str, run: Callable[[], Awaitable[Reading]], seconds: float) -> Reading | Reason:
    """One run as the engine does it: at the deadline the task is cancelled and the run's connections are dropped."""
    task = asyncio.ensure_future(run())
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(task)
    except ProbeError as error:
        return error.reason
    except TimeoutError:
        probe.drop(name)
        task.cancel()
        await asyncio.wait([task], timeout=1)
        assert task.done(), "the cancel was swallowed"
        return Reason.TIMEOUT


# --- the check ------------------------------------------------------------------------------------------------------------


async def test_a_check_tells_who_answered(place: Place) -> None:
    """Small facts for /health, none of them a secret. (Each way in is a case of the contract.)"""
    async with nothing_left(), probing(place.redis.url) as probe:
        ((_, version, *_),) = (await series(probe))["redis_instance_info"]
        assert (await probe.check()).detail == {
            "version": version,
            "role": "master",
            "mode": "standalone",
            "protocol": "RESP3",
            "tls": False,
            "pool": "2 of 3 connections",
        }


async def test_tls_may_be_asked_for_in_other_words(place: Place) -> None:
    """Beside an address without a scheme, and in the URL as redis-py's users write it."""
    beside: dict[str, object] = {"host": HOST, "port": place.redis.tls_port, "password": place.redis.password}
    for keys in (
        {**beside, "tls": {"ca_file": place.ca_file}},
        {"url": f"{place.redis.url_of(tls=True)}?ssl_ca_certs={place.ca_file}"},
    ):
        async with probing(**keys) as probe:
            assert (await probe.check()).detail["tls"] is True
            assert await series(probe)


async def test_a_check_uses_one_connection_again(place: Place) -> None:
    """And is seen in CLIENT LIST under our name."""
    async with probing(place.redis.url) as probe:
        for _ in range(3):
            await probe.check()
            await collect(probe)
        with Client.from_url(place.redis.url) as client:
            ours = [entry["id"] for entry in client.client_list() if entry["name"] == "sidecar-exporter"]
        assert (len(ours), probe.pool()) == (2, PoolUse(2, 0, 3))


async def test_without_the_right_to_info_ping_still_decides(place: Place) -> None:
    """The collector says what is missing and what would bring it; a granted right is seen by the next run."""
    async with probing(place.redis.url_of(username="pinger", password="p1ng-word")) as probe:
        assert (await probe.check()).detail["role"] == "master"
        error = await failure(collect(probe))
        assert (error.reason, error.message.startswith(f"INFO on {HOST}:{place.redis.port}: NOPERM ")) == (Reason.FORBIDDEN, True)
        assert error.reading is not None
        assert error.reading.capabilities == (Capability("info", available=False, cure="ACL SETUSER pinger +info"),)
        assert probe.pool() == PoolUse(2, 0, 3)  # a refusal costs no connection
        with Client.from_url(place.redis.url) as client:
            client.execute_command("ACL SETUSER pinger +info")
            try:
                assert (await collect(probe)).capabilities == (Capability("info", available=True),)
            finally:
                client.execute_command("ACL SETUSER pinger -info")


@pytest.mark.parametrize("protocol", [3, 2])
@pytest.mark.parametrize(
    ("username", "password", "reason", "word"),
    [
        ("", "", Reason.AUTH, "NOAUTH"),
        ("", "wr0ng-word", Reason.AUTH, "WRONGPASS"),
        ("looker", "wr0ng-word", Reason.AUTH, "WRONGPASS"),
        ("reader", "r34d-word", Reason.FORBIDDEN, "NOPERM"),
    ],
)
async def test_who_is_not_let_in_is_told_so(
    place: Place, protocol: int, username: str, password: str, reason: Reason, word: str
) -> None:
    """On a real server, in both protocols; the password is in no message."""
    url = f"redis://{HOST}:{place.redis.port}?protocol={protocol}"
    async with nothing_left(), probing(url, username=username or None, password=password or None) as probe:
        error = await failure(probe.check())
    assert (error.reason, f": {word} " in error.message) == (reason, True), error.message
    assert "-word" not in error.message


async def test_a_server_that_loads_its_data_is_not_ready(private_redis: StartRedis) -> None:
    """PING is refused until all is there; INFO is not, and tells that it loads."""
    # 2000 keys take 40 s, and after each the server looks at its clients
    slow = {"key-load-delay": "20000", "loading-process-events-interval-bytes": "1024", "rdbcompression": "no"}
    server = await private_redis(settings=slow)
    with Client.from_url(server.url) as client:
        client.mset({f"key{index}": "x" * 1000 for index in range(2000)})
    await asyncio.to_thread(server.stop)
    server.launch()
    async with probing(server.url) as probe:
        message = await eventually(lambda: _message(probe, Reason.NOT_READY), within=20)
        assert message == f"PING on {HOST}:{server.port}: LOADING Redis is loading the dataset in memory"
        assert (await series(probe))["redis_loading_dump_file"] == {(): 1}
        await _order(server, "CONFIG", "SET", "key-load-delay", 0)
        await eventually(lambda: _message(probe, None), within=20)
        assert (await series(probe))["redis_db_keys"] == {("db0",): 2000}


async def _order(server: Redis, *command: str | int) -> None:
    """A command by our own driver: redis-py's client would try again for seconds while the server loads."""
    lease = Lease("test")
    session = await connect(Login(Endpoint(HOST, server.port), password=Secret(server.password)), Resolver(), lease.hold)
    try:
        await session.execute(*command)
    finally:
        lease.drop()


async def _message(probe: RedisProbe, reason: Reason | None) -> str:
    """What a check says while it fails for that reason, None standing for success; else nothing."""
    try:
        reading = await probe.check()
    except ProbeError as error:
        return error.message if error.reason is reason else ""
    return f"{reading.detail}" if reason is None else ""


async def test_a_replica_cut_off_from_its_master_is_not_ready_and_its_promotion_is_seen(private_redis: StartRedis) -> None:
    """With replica-serve-stale-data off it answers nothing but that; once promoted the same connection tells the new role."""
    master = await private_redis(settings={"repl-diskless-sync-delay": "0"})
    replica = await private_redis(replica_of=master, settings={"replica-serve-stale-data": "no"})
    async with probing(replica.url) as probe, probing(master.url) as other:
        await eventually(lambda: _link_up(probe), within=20)
        assert (await probe.check()).detail["role"] == "replica"
        labels = (HOST, str(master.port))
        assert (await series(probe))["redis_slave_info"] == {(*labels, "1"): 1}
        await eventually(lambda: _online(other, (HOST, str(replica.port), "online")), within=20)
        await asyncio.to_thread(master.kill)
        message = await eventually(lambda: _message(probe, Reason.NOT_READY), within=20)
        assert message == (
            f"PING on {HOST}:{replica.port}: MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to …."
        )
        assert (await series(probe))["redis_master_link_up"] == {labels: 0}
        with Client.from_url(replica.url) as client:
            client.replicaof("NO", "ONE")
        assert (await probe.check()).detail["role"] == "master"


async def test_hello_goes_along_now_and_then(place: Place) -> None:
    """Its answer costs us twice what PING does: at one check a second it would be most of our work."""
    with Client.from_url(place.redis.url) as client:
        before = int(client.info("commandstats").get("cmdstat_hello", {}).get("calls", 0))
        async with probing(place.redis.url) as probe:
            roles = {str((await probe.check()).detail["role"]) for _ in range(5)}
        after = int(client.info("commandstats")["cmdstat_hello"]["calls"])
    assert roles == {"master"}
    assert after - before == 2  # the log-in, and the first check


async def _link_up(probe: RedisProbe) -> bool:
    return 1 in (await series(probe)).get("redis_master_link_up", {}).values()


async def _online(probe: RedisProbe, replica: tuple[str, ...]) -> bool:
    read = await series(probe)
    return replica in read["redis_connected_slave_lag_seconds"] and read["redis_connected_slaves"] == {(): 1}


async def test_a_server_busy_with_a_script_is_not_ready(private_redis: StartRedis) -> None:
    """It answers, but not what it was asked."""
    server = await private_redis(settings={"busy-reply-threshold": "1"})
    with Client.from_url(server.url) as client:
        script = asyncio.create_task(asyncio.to_thread(client.eval, "while true do end", 0))
        async with probing(server.url) as probe:
            message = await eventually(lambda: _message(probe, Reason.NOT_READY), within=20)
            assert ": BUSY " in message
            await asyncio.to_thread(server.kill)
        await asyncio.wait([script])
        assert script.exception() is not None


# --- INFO -----------------------------------------------------------------------------------------------------------------


async def test_numbers_of_info_are_those_of_the_server(private_redis: StartRedis) -> None:
    """Each against a query that asks for the same thing directly, or against what was done."""
    server = await private_redis(settings={"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru", "appendonly": "yes"})
    with Client.from_url(server.url_of(4)) as client:
        client.mset({f"k{index}": "v" for index in range(10)})
        for index in range(3):
            client.expire(f"k{index}", 1000)
        for key in ("k1", "k2", "none"):
            client.get(key)
        with pytest.raises(Exception, match="not an integer"):
            client.incr("k1")
        async with probing(server.url_of(1)) as probe:
            read = await series(probe)
            told = client.info("everything")
            size = client.dbsize()
            limit = int(client.config_get("maxmemory")["maxmemory"])
            clients = len(client.client_list())
    assert read["redis_db_keys"] == {("db4",): size, ("db1",): 0}
    assert read["redis_db_keys_expiring"] == {("db4",): 3, ("db1",): 0}
    assert read["redis_memory_max_bytes"] == {(): limit}
    assert read["redis_connected_clients"] == {(): clients}
    assert (read["redis_keyspace_hits_total"], read["redis_keyspace_misses_total"]) == ({(): 2}, {(): 1})
    assert [read["redis_commands_total"][(name,)] for name in ("mset", "expire", "get", "incrby")] == [1, 3, 3, 1]
    assert read["redis_commands_failed_calls_total"][("incrby",)] == 1
    assert read["redis_commands_duration_seconds_total"][("mset",)] == told["cmdstat_mset"]["usec"] / 1e6
    assert read["redis_errors_total"][("ERR",)] == told["errorstat_ERR"]["count"]
    assert read["redis_aof_enabled"] == {(): 1}
    assert read["redis_rdb_last_bgsave_status"] == {(): 1}
    assert abs(read["redis_memory_used_bytes"][()] - told["used_memory"]) < 0.5 * told["used_memory"]
    assert abs(read["redis_start_time_seconds"][()] - (told["server_time_usec"] / 1e6 - told["uptime_in_seconds"])) <= 2
    assert list(read["redis_instance_info"]) == [
        ("master", told["redis_version"], "standalone", told["os"], "allkeys-lru"),
    ]


async def test_a_counter_counts_what_happens_between_two_runs(place: Place) -> None:
    """It passes through, to the number."""
    async with probing(place.redis.url) as probe:
        before = (await series(probe))["redis_commands_total"].get(("echo",), 0)
        with Client.from_url(place.redis.url) as client:
            for _ in range(25):
                client.echo("x")
        assert (await series(probe))["redis_commands_total"][("echo",)] - before == 25


# --- faults ---------------------------------------------------------------------------------------------------------------


async def test_a_killed_server_is_told_and_its_return_is_noticed_by_the_next_check(private_redis: StartRedis) -> None:
    """No connection from before may stand in the way."""
    server = await private_redis()
    async with probing(server.url) as probe:
        await probe.check()
        await collect(probe)
        await asyncio.to_thread(server.kill)
        error = await failure(probe.check())
        assert (error.reason, error.message) == (Reason.REFUSED, f"connect {HOST}:{server.port}: connection refused")
        await asyncio.to_thread(server.start)
        await probe.check()
        await collect(probe)


async def test_a_frozen_server_costs_a_deadline_and_no_descriptor(private_redis: StartRedis) -> None:
    """Connections stay open and silent: each run ends at its deadline, and everything heals when the server goes on."""
    server = await private_redis()
    async with nothing_left(), probing(server.url) as probe:
        await probe.check()
        await collect(probe)
        await asyncio.to_thread(server.freeze)
        for _ in range(3):  # on the kept connection first, then while connecting
            assert await within(probe, CHECK, probe.check, 0.2) is Reason.TIMEOUT
            assert await within(probe, "info", lambda: collect(probe), 0.2) is Reason.TIMEOUT
        assert probe.pool() == PoolUse(0, 0, 3)
        await asyncio.to_thread(server.thaw)
        assert isinstance(await within(probe, CHECK, probe.check, 5), Reading)
        assert isinstance(await within(probe, "info", lambda: collect(probe), 5), Reading)


async def test_idle_connections_are_doubted_with_a_half_open_one(place: Place) -> None:
    """A firewall forgot them: after one deadline of the check, the collector does not believe its own of before either."""
    async with nothing_left(), Proxy(place.redis.port) as proxy:
        async with probing(f"redis://:{place.redis.password}@{HOST}:{proxy.port}") as probe:
            await probe.check()
            await collect(probe)
            proxy.half_open()
            assert await within(probe, CHECK, probe.check, 0.2) is Reason.TIMEOUT
            assert probe.pool() == PoolUse(0, 0, 3)
            assert isinstance(await within(probe, CHECK, probe.check, 5), Reading)
            assert isinstance(await within(probe, "info", lambda: collect(probe), 5), Reading)


async def test_two_hundred_servers_of_garbage_are_protocol_or_silence() -> None:
    """No parser spins, nothing piles up, and the loop goes on for the others."""
    seen: dict[Reading | Reason, int] = {}
    async with nothing_left():
        for seed in range(200):
            async with saying(garbage(seed)) as port, probing(f"redis://:word@{HOST}:{port}") as probe:
                reason = await within(probe, CHECK, probe.check, 0.25)
                seen[reason] = seen.get(reason, 0) + 1
    assert seen.keys() <= {Reason.PROTOCOL, Reason.TIMEOUT, Reason.CONFIG}, seen
    assert seen[Reason.PROTOCOL] > 180, seen


async def test_cancelled_runs_leave_nothing(place: Place) -> None:
    """A run may be cancelled anywhere: while connecting, greeting, asking; sixty offsets, no descriptor, no place lost."""
    async with nothing_left(), probing(place.redis.url) as probe:
        for offset in range(60):
            task = asyncio.ensure_future(probe.check() if offset % 2 else collect(probe))
            for _ in range(offset // 2):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.done()
        assert probe.pool().used == 0
        await probe.check()
    async with nothing_left(), silent() as port, probing(f"redis://:p@{HOST}:{port}") as probe:
        assert await within(probe, CHECK, probe.check, 0.1) is Reason.TIMEOUT


async def test_two_hundred_reconnects_leave_nothing(place: Place) -> None:
    """Each check on a new connection, as after every kind of doubt."""
    async with nothing_left(), probing(place.redis.url) as probe:
        for _ in range(200):
            await probe.check()
            probe.drop(CHECK)
        assert probe.pool() == PoolUse(0, 0, 3)
    with Client.from_url(place.redis.url) as client:
        await eventually(lambda: not _ours(client), within=5)


def _ours(client: Client) -> list[object]:
    return [entry["id"] for entry in client.client_list() if entry["name"] == "sidecar-exporter"]


async def test_closing_ends_a_run_that_waits() -> None:
    """Shutdown leaves no session behind, not even one in use."""
    async with nothing_left(), silent() as port, probing(f"redis://{HOST}:{port}") as probe:
        task = asyncio.ensure_future(probe.check())
        await eventually(lambda: probe.pool().used == 1, within=5)
        await probe.aclose()
        await asyncio.wait([task], timeout=5)
        assert isinstance(task.exception(), ProbeError)
        assert probe.pool() == PoolUse(0, 0, 3)
