"""The watchdog tells where the loop is stuck, once, while it is stuck, and when it is free."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import watchdog
from exporter.log.lines import about_of
from exporter.watchdog import LIMIT_SECONDS, Watchdog
from tests.servers import eventually, eventually_now

ROOT = Path(__file__).parent.parent


class Dog:
    """A watchdog whose clock and looks are the test's."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.watchdog = Watchdog(clock=lambda: self.now)

    def passes(self, seconds: float, *, beating: bool) -> None:
        """So many seconds, with a look in each."""
        for _ in range(int(seconds)):
            self.now += 1
            if beating:
                self.watchdog.fed()
            self.watchdog.look()


@pytest.fixture
def dog(caplog: pytest.LogCaptureFixture) -> Dog:
    caplog.set_level(logging.DEBUG, logger="exporter")
    return Dog()


def test_an_incident_is_told_once_with_its_place_and_again_when_it_is_over(dog: Dog, caplog: pytest.LogCaptureFixture) -> None:
    """Thirty seconds, not before; the place is that of the thread that runs the loop, here this test."""
    dog.passes(3600, beating=True)
    dog.passes(LIMIT_SECONDS - 1, beating=False)
    assert caplog.records == []
    dog.passes(600, beating=False)
    dog.passes(60, beating=True)
    stuck, *others, free = caplog.records
    assert stuck.getMessage().startswith("the event loop has not turned for 30s: exporter/watchdog.py:")
    assert "tests/test_watchdog.py:" in stuck.getMessage()
    assert "Dog.passes" in stuck.getMessage()
    assert [record.getMessage().partition(":")[0] for record in others] in ([], ["meanwhile in other threads"])
    assert free.getMessage() == "the event loop turns again after 630s"
    assert (stuck.levelname, free.levelname) == ("ERROR", "WARNING")
    assert (about_of(stuck).duration_seconds, about_of(free).duration_seconds) == (30.0, 630.0)


def test_a_second_incident_is_told_too(dog: Dog, caplog: pytest.LogCaptureFixture) -> None:
    """Once per incident, not once."""
    for _ in range(2):
        dog.passes(40, beating=False)
        dog.passes(10, beating=True)
    assert [record.getMessage()[:33] for record in caplog.records if "threads" not in record.getMessage()] == [
        "the event loop has not turned for",
        "the event loop turns again after ",
    ] * 2


@pytest.mark.parametrize(("paused", "said"), [(20.0, 0), (28.0, 0), (600.0, 1)])
def test_a_paused_process_is_not_a_stuck_loop(dog: Dog, caplog: pytest.LogCaptureFixture, paused: float, said: int) -> None:
    """`docker pause`, a debugger, a machine that swaps: every thread has stood still, so the loop is not to blame."""
    dog.passes(100, beating=True)
    dog.now += paused
    dog.passes(25, beating=False)  # it needs a moment to come to itself
    dog.passes(10, beating=True)
    pause = f"no thread has run for {paused + 1:.0f}s: the process was paused, or C code kept the interpreter"
    assert [record.getMessage() for record in caplog.records] == [pause] * said


def test_other_threads_are_told_together(dog: Dog, caplog: pytest.LogCaptureFixture) -> None:
    """A hundred lookups that hang alike are one piece, and no value of a frame is shown."""
    free = threading.Event()

    def look_up(host: str) -> None:
        free.wait(30)

    threads = [threading.Thread(target=look_up, args=("secret text",), name=f"lookup {number}") for number in range(100)]
    for thread in threads:
        thread.start()
    try:
        dog.passes(31, beating=False)
    finally:
        free.set()
    for thread in threads:
        thread.join()
    (others,) = (record.getMessage() for record in caplog.records if record.getMessage().startswith("meanwhile"))
    assert others.count("lookup ") < 10  # one of them for those that have not come to their wait yet, and so on
    assert ".look_up" in others
    assert "secret text" not in caplog.text


@pytest.fixture
def _scaled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watchdog, "LIMIT_SECONDS", 0.3)
    yield
    eventually_now(lambda: not [thread for thread in threading.enumerate() if thread.name == "watchdog"], 5)


@pytest.mark.usefixtures("_scaled")
def test_a_loop_that_is_really_blocked_is_told_while_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """A real thread, a real loop and a real block, with the limit a hundredth of what it is."""

    async def beat(dog: Watchdog) -> None:
        while True:
            dog.fed()
            await asyncio.sleep(0.01)

    def block() -> None:
        eventually_now(lambda: caplog.messages, 10)

    async def main() -> None:
        with Watchdog() as dog:
            beating = asyncio.create_task(beat(dog))
            await asyncio.sleep(0.5)
            assert caplog.messages == []
            block()
            await eventually(lambda: "turns again" in caplog.messages[-1], 10)
            beating.cancel()

    asyncio.run(asyncio.wait_for(main(), 20))
    assert ".block < tests/test_watchdog.py:" in caplog.messages[0]


HOLDING = """
import re, sys
from exporter import watchdog
watchdog.LIMIT_SECONDS = 0.5
with watchdog.Watchdog(last_resort=sys.stderr):
    re.match("(a+)+$", "a" * 60 + "b")  # takes longer than anybody lives, and lets no other thread run
"""


def test_c_code_that_keeps_the_interpreter_to_itself_is_told_by_the_last_resort() -> None:
    """No Python thread runs any more: asyncpg's parser has been such a case, a regular expression is another."""
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", HOLDING], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = [process.stderr.readline()]
            while "in match" not in said[-1] and said[-1]:
                said.append(process.stderr.readline())
        finally:
            process.kill()
    assert said[0].startswith("Timeout (0:00:00.5")
    assert "in match" in said[-1]
    assert time.monotonic() - began < 30


def test_the_last_resort_is_silent_while_the_watchdog_runs(capfd: pytest.CaptureFixture[str]) -> None:
    """Only one of the two speaks of an incident, and none of a sound loop."""
    script = HOLDING.replace("re.match", "import time; time.sleep(2)  # ")
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (result.returncode, "Timeout" in result.stderr) == (0, False)
    assert "has not turned" in result.stderr
