"""The log has one line for each change that holds, and none for each run."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from exporter.errors import ProbeError
from exporter.log.fields import About
from exporter.log.lines import about_of
from exporter.model import Family, Reading, Reason, Status
from exporter.probes.base import Collector
from tests.schedule.stage import NUMBER, Stage, StageProbe, good, stage_settings
from tests.schedule.timetravel import travel

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="exporter")


async def refused() -> Reading:
    raise ProbeError(Reason.REFUSED, "connect 127.0.0.1:1: connection refused", retryable=False)


def for_hours(hours: float, probe: StageProbe, *then: Callable[[], Awaitable[Reading]]) -> None:
    """Runs the probe so long, and so long with each further behaviour."""

    async def main() -> None:
        async with Stage(probe):
            await asyncio.sleep(hours * HOUR)
            for act in then:
                probe.act = act
                await asyncio.sleep(hours * HOUR)

    travel(main())


def test_a_confirmed_change_is_one_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Three hours of checks, each way: whoever reads the log in the morning sees when it began, why, and when it was over."""
    for_hours(1, StageProbe("db", stage_settings(interval="15s")), refused, good)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "healthy"),
        ("WARNING", "unhealthy, refused: connect 127.0.0.1:1: connection refused"),
        ("INFO", "healthy"),
    ]
    down = about_of(caplog.records[1])
    assert (down.probe, down.status, down.reason, down.collector) == ("db", Status.UNHEALTHY, Reason.REFUSED, None)
    assert down.duration_seconds is not None


def collecting(work: Callable[[], Awaitable[Reading]]) -> StageProbe:
    return StageProbe("db", stage_settings(interval="60s"), collectors=(Collector("locks", 60.0, 2.0, work),))


def failing(*pattern: Reason | None) -> Callable[[], Awaitable[Reading]]:
    """Fails for these reasons in turn, None for a good run, again and again."""
    runs = iter(pattern * 1000)

    async def work() -> Reading:
        reason = next(runs)
        if reason is not None:
            raise ProbeError(reason, "so it is", retryable=False)
        return Reading()

    return work


def test_a_collector_that_flaps_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A query that times out every other minute has changed once: it is not reliable any more."""
    for_hours(1, collecting(failing(Reason.TIMEOUT, None)))
    assert [record.getMessage() for record in caplog.records if about_of(record).collector] == ["timeout: so it is"]


def test_a_collector_says_each_reason_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Its own line, for the check goes on being healthy."""
    pattern = (Reason.FORBIDDEN,) * 5 + (Reason.TIMEOUT,) * 5 + (None,) * 500
    for_hours(1, collecting(failing(*pattern)))
    said = [record for record in caplog.records if about_of(record).collector]
    assert [record.getMessage() for record in said] == ["forbidden: so it is", "timeout: so it is", "reads again"]
    assert about_of(said[0]) == About("db", "locks", reason=Reason.FORBIDDEN, duration_seconds=0.0)


def test_a_collector_says_nothing_of_an_outage_of_the_whole_target(caplog: pytest.LogCaptureFixture) -> None:
    """One outage is one line, not one for each of thirty queries."""
    probe = collecting(refused)
    probe.act = refused
    for_hours(1, probe)
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["unhealthy"]


async def twice() -> Reading:
    return Reading((Family(NUMBER, (((), 1.0), ((), 1.0))),))


async def broken() -> Reading:
    raise ValueError("secret text")


@pytest.mark.parametrize(
    ("act", "said"), [(broken, "unexpected ValueError at broken:"), (twice, "stage_number: two rows have the same labels")]
)
def test_a_bug_in_each_run_is_one_line(caplog: pytest.LogCaptureFixture, act: Callable[[], Awaitable[Reading]], said: str) -> None:
    """At 15 s that would be six thousand lines a day."""
    for_hours(1, StageProbe("db", stage_settings(interval="15s"), act))
    (bug,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert bug.getMessage().startswith(said)
    assert about_of(bug) == About("db", "check", reason=Reason.INTERNAL)
    assert "secret text" not in caplog.text


def test_a_listener_that_had_listened_for_a_while_says_its_end_again(caplog: pytest.LogCaptureFixture) -> None:
    """Lost each second it is one line; lost again after ten minutes it is another event."""

    class Listening(StageProbe):
        async def listen(self, wake: object) -> None:
            await asyncio.sleep(600 if len(caplog.records) < 3 else 0.01)
            raise ProbeError(Reason.RESET, "connection reset")

    for_hours(1, Listening("broker", stage_settings(interval="60s")))
    said = [record for record in caplog.records if "listening" in record.getMessage()]
    assert [about_of(record) for record in said] == [About("broker", reason=Reason.RESET, duration_seconds=600.0)] * 2
