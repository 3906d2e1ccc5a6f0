"""The demo as a person starts it: a process of its own that sets everything up, plays, and leaves nothing."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.demo.guard import descendants
from tests.servers import eventually_now, still_running

ROOT = Path(__file__).parents[2]
STEPS = (
    *("the page answers", "trading: begins", "healthy", "db: stopped", "unhealthy", "circuit open", "db: runs again", "healthy"),
    *("circuit closed", "trading: paused", "equal to the ledger: "),
)

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demo puts its folders and its socket: to be empty in the end. Its path is short, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        Path(folder).chmod(0o755)  # servers of another user go through it to their own folders
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("DATABASE_URL", "postgresql://app:hush@db/app")
        yield Path(folder)


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "exporter", "demo", *words]


def _tell(*words: str) -> str:
    ended = subprocess.run(_command(*words), cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def _left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != "output"]


class Demo:
    """A demo that runs, its output in a file."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(_command("--port", "0"), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    def said(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self._output.read_text(), re.MULTILINE)

    def wait_for(self, pattern: str, within: float) -> re.Match[str]:
        found = eventually_now(lambda: self.said(pattern) or self.process.poll() is not None, within)
        assert isinstance(found, re.Match), self._output.read_text()
        return found

    @property
    def parts(self) -> list[int]:
        """All its processes but itself."""
        return list(descendants(self.process.pid))


@pytest.fixture
def demo(folders: Path) -> Iterator[Demo]:
    demo = Demo(folders)
    yield demo
    demo.process.kill()
    demo.process.wait()


def test_once_goes_from_healthy_to_broken_and_back(folders: Path) -> None:
    """The whole of the product on one command, checked by exit code: real faults, real recovery, nothing left."""
    began = time.monotonic()
    ended = subprocess.run(_command("--once"), cwd=ROOT, capture_output=True, text=True, timeout=140)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert time.monotonic() - began < 120
    steps = [re.sub(r"^ *[0-9.]+s  ", "", line) for line in ended.stdout.splitlines()]
    assert len(steps) == len(STEPS)
    for step, expected in zip(steps, STEPS, strict=True):
        assert step.startswith(expected)
    assert re.search(r"tasks trading.settle succeeded [1-9].*trades BTCUSDT [1-9]", steps[-1])
    assert _left_in(folders) == []


def test_it_is_healthy_breaks_heals_and_ends_leaving_nothing(demo: Demo, folders: Path) -> None:
    """What the demo is for; the one who looks on reads it where it was started. (`--once` stops a target, so this freezes one.)"""
    seconds, url = demo.wait_for(r"^ *([0-9.]+)s  the page answers: (http://127\.0\.0\.1:[0-9]+)/$", 30).groups()
    assert float(seconds) < 5  # seen: about 1; the rest is for a busy machine
    began = time.monotonic()
    demo.wait_for("health healthy", 60)
    print(f"healthy {time.monotonic() - began:.1f} s after the page")  # 10 to 14 seen
    with urllib.request.urlopen(f"{url}/health.txt", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    healthy = {line.split()[1] for line in lines if line.startswith("[+]") and line.split()[2] == "healthy"}
    assert healthy == {"db", "redis", "rabbitmq", "celery", "app"}
    for pid in demo.parts:
        assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()
    _tell("break", "rabbitmq", "--how", "freeze")
    demo.wait_for("health healthy(.|\n)*health unhealthy", 30)
    demo.wait_for("health healthy(.|\n)*circuit of rabbitmq: open", 30)
    _tell("heal", "rabbitmq")
    demo.wait_for("health unhealthy(.|\n)*health healthy", 45)
    _tell("pause")
    demo.wait_for("trading: paused", 10)
    parts = demo.parts
    assert len(parts) > 16
    os.kill(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(15) == 0
    assert (still_running(parts), _left_in(folders)) == ([], [])


def test_ended_while_it_starts_it_leaves_nothing(demo: Demo, folders: Path) -> None:
    """The one who started it may have meant something else; SIGTERM is what a process manager sends."""
    demo.wait_for("the page answers", 30)
    parts = demo.parts
    demo.process.terminate()
    assert demo.process.wait(15) == 0
    assert (still_running(parts), _left_in(folders)) == ([], [])


def test_killing_it_leaves_no_process(demo: Demo) -> None:
    """kill -9 while a server is frozen: two seconds later nothing is left, the broker's epmd and the worker's pool neither."""
    demo.wait_for("trading: goes on", 60)
    _tell("break", "rabbitmq", "--how", "freeze")
    parts = demo.parts
    assert len(parts) > 16
    demo.process.kill()
    demo.process.wait()
    eventually_now(lambda: not still_running(parts), 2)
