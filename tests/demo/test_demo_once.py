"""The demo as a person starts it: a process of its own that sets everything up, plays, and leaves nothing."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.demo.guard import descendants
from tests.servers import eventually_now, is_listening, still_running

ROOT = Path(__file__).parents[2]
STEPS = ("the page answers", "healthy", "db: stopped", "unhealthy", "circuit open", "db: runs again", "healthy", "circuit closed")

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
    assert _left_in(folders) == []


def test_break_and_heal_open_and_close_a_circuit(demo: Demo) -> None:
    """What the demo is for; the one who looks on reads it where it was started. (`--once` stops, so this freezes.)"""
    demo.wait_for("health healthy", 30)
    _tell("break", "db", "--how", "freeze")
    demo.wait_for("health healthy(.|\n)*health unhealthy", 30)
    demo.wait_for("circuit of db: open", 30)
    _tell("heal", "db")
    demo.wait_for("circuit of db: open(.|\n)*health healthy", 45)
    demo.wait_for("circuit of db: open(.|\n)*circuit of db: closed", 45)


def test_the_page_answers_before_there_is_anything_to_probe(demo: Demo) -> None:
    """The page is up about a second after the exporter's start, and secrets of our environment have not gone along."""
    seconds, port = demo.wait_for(r"^ *([0-9.]+)s  the page answers: http://127\.0\.0\.1:([0-9]+)/$", 30).groups()
    assert float(seconds) < 5  # seen: below 1; the rest is for a busy machine
    assert is_listening(int(port))
    for pid in demo.parts:
        assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_it_leaves_nothing(demo: Demo, folders: Path, number: signal.Signals) -> None:
    """No process, no folder, exit code 0: Ctrl-C is how a demo ends."""
    demo.wait_for("health healthy", 30)
    parts = demo.parts
    assert len(parts) > 8
    os.kill(demo.process.pid, number)
    assert demo.process.wait(15) == 0
    assert (still_running(parts), _left_in(folders)) == ([], [])


def test_killing_it_leaves_no_process(demo: Demo) -> None:
    """kill -9 while a server is frozen: two seconds later nothing is left."""
    demo.wait_for("health healthy", 30)
    _tell("break", "db", "--how", "freeze")
    parts = demo.parts
    demo.process.kill()
    demo.process.wait()
    eventually_now(lambda: not still_running(parts), 2)
