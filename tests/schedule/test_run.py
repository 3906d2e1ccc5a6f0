"""One run: recorded once, at the latest at its deadline, whatever the work does."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from exporter import phase
from exporter.errors import ProbeError
from exporter.model import Family, Kind, Metric, Outcome, Reading, Reason, Run
from exporter.retry import RetryPolicy
from exporter.schedule.run import ABANDON_SECONDS, Job, Runner, Tools
from exporter.secret import Redactor, Secret
from tests.schedule.timetravel import travel

THREE = RetryPolicy(3, 0.5, 2.0)


METRIC = Metric("m", Kind.GAUGE, "M.", ("a",))


class Bench:
    """Runs one job and keeps what became of it."""

    def __init__(self, work: Callable[[], Awaitable[Reading]], **job: object) -> None:
        self.runs: list[Run] = []
        self.recorded_at: list[float] = []
        self.dropped: list[str] = []
        self.abandoned: list[asyncio.Task[object]] = []
        tools = Tools(lambda: 0.0, Random(1), Redactor([Secret("hunter22")]), lambda _, task: self.abandoned.append(task))
        keys = {"timeout_seconds": 2.0, "translate": self._translate, "drop": self.dropped.append, "declared": {"m": METRIC}, **job}
        self.runner = Runner(Job("db", "check", work=work, **keys), tools)  # type: ignore[arg-type]

    @staticmethod
    def _translate(error: Exception) -> ProbeError | None:
        return ProbeError(Reason.REFUSED, str(error)) if isinstance(error, ConnectionRefusedError) else None

    def record(self, run: Run) -> None:
        self.runs.append(run)
        self.recorded_at.append(asyncio.get_running_loop().time())

    async def go(self, *, retries: bool = True) -> Run:
        self.began = asyncio.get_running_loop().time()
        await self.runner.run(self.record, retries=retries)
        assert len(self.runs) == 1
        return self.runs[0]


def test_a_reading_is_a_success() -> None:
    """The ordinary case keeps the connection."""

    async def work() -> Reading:
        return Reading(detail={"version": "15"})

    bench = Bench(work)
    run = travel(bench.go())
    assert (run.outcome, run.reason, run.reading) == (Outcome.SUCCESS, None, Reading(detail={"version": "15"}))
    assert bench.dropped == []


def test_a_slow_success_is_degraded() -> None:
    """`degraded_after` measures the whole run."""

    async def work() -> Reading:
        await asyncio.sleep(0.3)
        return Reading()

    run = travel(Bench(work, degraded_after_seconds=0.2).go())
    assert (run.outcome, run.reason, run.message) == (Outcome.DEGRADED, Reason.SLOW, "took 300ms, degraded after 200ms")


def test_a_driver_error_is_translated_and_its_connection_dropped() -> None:
    """Nothing above the driver names its exceptions."""

    async def work() -> Reading:
        raise ConnectionRefusedError("connect 127.0.0.1:1: connection refused")

    bench = Bench(work)
    run = travel(bench.go())
    assert (run.outcome, run.reason, run.message) == (Outcome.FAILURE, Reason.REFUSED, "connect 127.0.0.1:1: connection refused")
    assert bench.dropped == ["check"]


def test_an_unexpected_exception_is_internal_and_its_text_stays_inside() -> None:
    """The text of an exception nobody expected may hold anything."""

    async def work() -> Reading:
        raise KeyError("password=hunter22")

    run = travel(Bench(work).go())
    assert run.reason is Reason.INTERNAL
    assert run.message is not None
    assert run.message.startswith("unexpected KeyError at work:")
    assert "hunter22" not in run.message


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_library_that_exits_ends_its_run_and_nothing_else(error: BaseException) -> None:
    """asyncio would end the whole process, without a word."""

    async def work() -> Reading:
        raise error

    run = travel(Bench(work).go())
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.INTERNAL)
    assert str(run.message).startswith(f"unexpected {type(error).__name__} at work:")


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (((("x", "y"), 1),), "m: label values do not fit its labels"),
        ((((None,), 1),), "m: label values do not fit its labels"),
        (((("x",), None),), "m: a value is no int and no float"),
        (((("x",), True),), "m: a value is no int and no float"),
        (((("x",), 1), (("x",), 2)), "m: two rows have the same labels"),
    ],
)
def test_a_family_that_cannot_be_exposed_fails_its_run_alone(rows: Any, wrong: str) -> None:
    """One bad row on the page would cost the scraper all of it."""

    async def work() -> Reading:
        return Reading((Family(METRIC, rows),))

    run = travel(Bench(work).go())
    assert (run.outcome, run.reason, run.message, run.reading) == (Outcome.FAILURE, Reason.INTERNAL, wrong, None)


def test_a_run_that_cancels_itself_is_internal() -> None:
    """As nothing, it would keep its probe green for ever."""

    async def work() -> Reading:
        raise asyncio.CancelledError

    run = travel(Bench(work).go())
    assert (run.outcome, run.reason, run.message) == (Outcome.FAILURE, Reason.INTERNAL, "the run was cancelled from within")


def test_a_run_that_returns_nothing_is_internal() -> None:
    """A probe of somebody else's may have met no type checker."""

    async def work() -> Any:
        return None

    assert travel(Bench(work).go()).message == "the run returned no reading"


def test_a_drop_that_raises_ends_nothing() -> None:
    """It is called when something is wrong already."""

    def drop(_: str) -> None:
        raise RuntimeError

    async def work() -> Reading:
        raise ProbeError(Reason.RESET, "reset")

    assert travel(Bench(work, drop=drop).go()).reason is Reason.RESET


def test_a_cancel_while_letting_go_waits_until_that_is_done() -> None:
    """A shutdown right after a deadline must not lose sight of the task that swallows its cancel."""
    cancels: list[float] = []

    async def work() -> Reading:
        while True:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                cancels.append(asyncio.get_running_loop().time())
                if len(cancels) == 3:
                    raise

    bench = Bench(work)

    async def main() -> int:
        running = asyncio.create_task(bench.runner.run(bench.record))
        await asyncio.sleep(2.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return len([task for task in asyncio.all_tasks() if task.get_name() == "db/check"])

    assert travel(main()) == 0
    assert len(cancels) == 3
    assert bench.abandoned == []


def test_messages_are_redacted_and_cut() -> None:
    """Law 6 holds even where a driver put a secret into its message."""

    async def work() -> Reading:
        raise ProbeError(Reason.AUTH, "login\nhunter22 refused " + "x" * 500)

    run = travel(Bench(work).go())
    assert run.message is not None
    assert run.message.startswith("login … refused xxx")
    assert len(run.message) == 200


async def _hang() -> Reading:
    with phase.waiting("SELECT 1 on 127.0.0.1:5432"):
        await asyncio.sleep(1e6)
    return Reading()


def test_the_deadline_records_names_the_wait_drops_and_lets_go() -> None:
    """Recorded at the deadline, with what was waited for."""
    bench = Bench(_hang)
    run = travel(bench.go())
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.TIMEOUT)
    assert run.message == "SELECT 1 on 127.0.0.1:5432: no answer within 2s"
    assert bench.recorded_at[0] - bench.began == pytest.approx(2.0)
    assert bench.dropped == ["check"]
    assert bench.abandoned == []


def test_a_driver_that_swallows_cancels_is_abandoned_after_a_second() -> None:
    """The run was recorded at its deadline all the same, and the next one may begin."""
    free = asyncio.Event()

    async def work() -> Reading:
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()
        return Reading()

    async def main() -> float:
        bench = Bench(work)
        await bench.go()
        ended = asyncio.get_running_loop().time()
        assert bench.recorded_at[0] - bench.began == pytest.approx(2.0)
        assert len(bench.abandoned) == 1
        free.set()
        await asyncio.wait(bench.abandoned)
        return ended - bench.began

    assert travel(main()) == pytest.approx(2.0 + ABANDON_SECONDS)


def test_a_name_that_never_resolves_is_dns_at_the_deadline() -> None:
    """The innermost wait gives the reason."""

    async def work() -> Reading:
        with phase.waiting("connect"), phase.waiting("resolve db.internal", Reason.DNS):
            await asyncio.sleep(1e6)
        return Reading()

    run = travel(Bench(work).go())
    assert (run.reason, run.message) == (Reason.DNS, "resolve db.internal: no answer within 2s")


def test_a_failed_run_tells_where_its_time_went() -> None:
    """In the order in which the waits began, the one that it hangs in lasting until the deadline, and without a secret."""

    async def work() -> Reading:
        with phase.waiting("read as hunter22"):
            with phase.waiting("resolve db.internal"):
                await asyncio.sleep(0.25)
            with phase.waiting("connect 10.0.0.7:5432"):
                await asyncio.sleep(1e6)
        return Reading()

    run = travel(Bench(work).go())
    assert [past.what for past in run.phases] == ["read as …", "resolve db.internal", "connect 10.0.0.7:5432"]
    assert [past.seconds for past in run.phases] == pytest.approx([2.0, 0.25, 1.75])


def test_every_attempt_adds_its_waits_and_the_last_ones_are_kept() -> None:
    """A run that waits for a thousand answers must not remember them all."""

    async def work() -> Reading:
        for number in range(6):
            with phase.waiting(f"command {number}"):
                await asyncio.sleep(0.01)
        raise ProbeError(Reason.RESET, "reset")

    run = travel(Bench(work, retry=THREE, timeout_seconds=60.0).go())
    assert [past.what for past in run.phases] == [f"command {number}" for number in (4, 5, 0, 1, 2, 3, 4, 5)]


def test_a_listener_that_waits_for_ever_remembers_no_more() -> None:
    """It runs for months, and its waits are never asked for."""
    phases = phase.begin()
    for _ in range(10 * phase.KEPT):
        with phase.waiting("next frame"):
            pass
    assert len(phases._closed) == len(phases.past) == phase.KEPT


def test_a_good_run_keeps_no_waits() -> None:
    """They would be remembered with every reading, and nobody asks."""

    async def work() -> Reading:
        with phase.waiting("SELECT 1"):
            return Reading()

    assert travel(Bench(work).go()).phases == ()


def test_retries_stop_at_attempts_and_count() -> None:
    """`attempts` counts the first one too."""
    calls = []

    async def work() -> Reading:
        calls.append(1)
        raise ProbeError(Reason.RESET, "reset")

    run = travel(Bench(work, retry=THREE, timeout_seconds=60.0).go())
    assert (len(calls), run.retries, run.reason) == (3, 2, Reason.RESET)


def test_a_retry_can_save_the_run() -> None:
    """A server that restarted between two runs costs one attempt, not one failed check."""
    calls = []

    async def work() -> Reading:
        calls.append(1)
        if len(calls) == 1:
            raise ProbeError(Reason.RESET, "reset")
        return Reading()

    run = travel(Bench(work, retry=THREE, timeout_seconds=60.0).go())
    assert (run.outcome, run.retries) == (Outcome.SUCCESS, 1)


@pytest.mark.parametrize("reason", [Reason.AUTH, Reason.ASSERTION, Reason.FORBIDDEN, Reason.CONFIG])
def test_what_a_retry_cannot_mend_is_not_tried_again(reason: Reason) -> None:
    """A second wrong password only locks the account."""
    calls = []

    async def work() -> Reading:
        calls.append(1)
        raise ProbeError(reason, "no")

    travel(Bench(work, retry=THREE).go())
    assert len(calls) == 1


def test_a_trial_has_one_attempt() -> None:
    """An ailing target is not asked three times."""
    calls = []

    async def work() -> Reading:
        calls.append(1)
        raise ProbeError(Reason.RESET, "reset")

    travel(Bench(work, retry=THREE).go(retries=False))
    assert len(calls) == 1


def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    """The last error says more than a timeout would."""

    async def work() -> Reading:
        raise ProbeError(Reason.RESET, "reset by peer")

    bench = Bench(work, retry=RetryPolicy(50, 30.0, 30.0), timeout_seconds=5.0)
    run = travel(bench.go())
    assert (run.reason, run.message) == (Reason.RESET, "reset by peer")
    assert bench.recorded_at[0] - bench.began < 5.0


def test_a_cancelled_run_is_recorded_as_cancelled_and_lets_go() -> None:
    """A reload or a shutdown is not an outage."""

    async def work() -> Reading:
        await asyncio.sleep(1e6)
        return Reading()

    bench = Bench(work)

    async def go() -> None:
        task = asyncio.create_task(bench.runner.run(bench.record))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    travel(go())
    assert [run.outcome for run in bench.runs] == [Outcome.CANCELLED]
    assert bench.dropped == ["check"]
