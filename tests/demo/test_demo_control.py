"""How `exporter demo break` and `heal` reach the demo that runs, and what they say when there is none."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.demo.command import demo
from exporter.demo.control import DemoRuns, NoDemo, answering, ask, claimed, socket_path
from exporter.demo.scenes import performer
from exporter.demo.servers import reserve_port
from exporter.demo.stage import StageError
from exporter.errors import ExporterError

NO_DEMO = "no demo runs; start one with `exporter demo` in another terminal"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of the test's own; its path is short, for a socket's has at most 107 bytes (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def _path(runtime: Path) -> Path:
    return socket_path({"XDG_RUNTIME_DIR": str(runtime)})


async def _echo(request: str) -> str:
    if request == "fail":
        raise StageError("cannot")
    return f"did {request}"


async def test_a_request_is_answered(runtime: Path) -> None:
    """What the demo says is what the operator reads."""
    path = _path(runtime)
    with claimed(path) as bound:
        async with answering(bound, _echo):
            assert await asyncio.to_thread(ask, path, "break db stop") == "did break db stop"
            with pytest.raises(ExporterError, match=r"^cannot$"):
                await asyncio.to_thread(ask, path, "fail")
    assert not path.parent.exists()


async def test_a_second_demo_is_refused(runtime: Path) -> None:
    """Break would not know which one is meant."""
    with claimed(_path(runtime)) as bound:
        async with answering(bound, _echo):
            with pytest.raises(DemoRuns), claimed(_path(runtime)):
                pass
            assert await asyncio.to_thread(ask, _path(runtime), "x") == "did x"


async def test_what_a_killed_demo_left_is_replaced(runtime: Path) -> None:
    """kill -9 leaves the socket's file; it must neither stop the next demo nor look like a running one."""
    path = _path(runtime)
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(NoDemo, match=NO_DEMO):
        await asyncio.to_thread(ask, path, "x")
    with claimed(path) as bound:
        async with answering(bound, _echo):
            assert await asyncio.to_thread(ask, path, "x") == "did x"


async def test_a_request_is_read_word_by_word() -> None:
    """Only what the command line can say is understood."""
    asked: list[tuple[str, ...]] = []

    class Recorder:
        def broken(self, *what: str) -> str:
            asked.append(("broken", *what))
            return "ok"

        def healed(self, *what: str) -> str:
            asked.append(("healed", *what))
            return "ok"

        def paused(self) -> str:
            asked.append(("paused",))
            return "ok"

        def resumed(self) -> str:
            asked.append(("resumed",))
            return "ok"

    perform = performer(Recorder())  # type: ignore[arg-type]  # the four methods are all it uses
    assert {await perform(request) for request in ("break db freeze", "heal app", "pause", "resume")} == {"ok"}
    assert asked == [("broken", "db", "freeze"), ("healed", "app"), ("paused",), ("resumed",)]
    for nonsense in ("break db", "break db gently", "heal", "dance"):
        with pytest.raises(StageError, match="not understood"):
            await perform(nonsense)


def test_the_socket_is_this_users_alone(runtime: Path) -> None:
    """Whoever may write to it can stop servers."""
    path = _path(runtime)
    with claimed(path):
        assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.mkdir(mode=0o755)
    with pytest.raises(NoDemo, match="must be a folder of yours with mode 0700"), claimed(path):
        pass


def test_without_a_runtime_folder_one_in_tmp_is_taken() -> None:
    """Root and containers have none."""
    path = socket_path({})
    assert path.parent.name == f"sidecar-demo-{os.geteuid()}"
    assert path == socket_path({"XDG_RUNTIME_DIR": "/nonexistent"}) == socket_path({"XDG_RUNTIME_DIR": "here"})


@pytest.mark.parametrize("words", [["break", "db"], ["break", "db", "--how", "freeze"], ["heal", "app"], ["pause"], ["resume"]])
def test_without_a_demo_the_command_says_how_to_start_one(runtime: Path, words: list[str]) -> None:
    """One line and exit code 2: it is the call that is wrong, not a target."""
    ended = CliRunner().invoke(demo, words)
    assert (ended.exit_code, ended.output) == (2, f"exporter demo: {NO_DEMO}\n")


def test_a_taken_port_ends_the_demo_with_one_line(runtime: Path) -> None:
    """Somebody has an exporter on the default port already."""
    with reserve_port() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        ended = CliRunner().invoke(demo, ["--port", str(port)])
    assert (ended.exit_code, ended.output) == (2, f"exporter demo: port {port} of 127.0.0.1: Address already in use\n")
