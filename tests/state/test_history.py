"""What is remembered of a probe, and for how long."""

import asyncio
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import phase
from exporter.errors import MESSAGE_LENGTH
from exporter.health import BLIND_SECONDS, report
from exporter.model import (
    CHECK,
    Availability,
    Change,
    CircuitState,
    CircuitStatus,
    History,
    Kind,
    Metric,
    Outcome,
    Phase,
    Reading,
    Reason,
    Run,
    Status,
)
from exporter.state import Record, State, Watched
from exporter.state.history import CHANGES, FAILURES, RECENT, RUNS, Past
from tests.schedule.stage import EPOCH, Stage, StageProbe, good, stage_settings
from tests.schedule.timetravel import travel

WATCHED = Watched("db", "postgres", Metric("pg_up", Kind.GAUGE, "Whether it is up."), (("probe", "db"),), 10.0, 5.0)
OPEN = CircuitStatus(CircuitState.OPEN, 0.0)
FORCED = CircuitStatus(CircuitState.FORCED_OPEN, 0.0)
WAITS = (Phase("resolve db.internal", 0.002), Phase("connect 10.0.0.7:5432", 4.998))


def ran(at: float, outcome: Outcome = Outcome.SUCCESS, reason: Reason | None = None, **more: object) -> Run:
    """A check that ended then, on both clocks, unless `collector` names another."""
    keys = {"collector": CHECK, "duration_seconds": 0.25, **more}
    return Run(outcome=outcome, ended=at, ended_at=at, reason=reason, **keys)  # type: ignore[arg-type]


def failed(at: float, message: str = "no answer within 5s", **more: object) -> Run:
    return ran(at, Outcome.FAILURE, Reason.TIMEOUT, message=message, phases=WAITS, **more)


class Remembering:
    """A state with one probe."""

    def __init__(self) -> None:
        self.state = State(0.0, 0.0)
        self.record = self.state.add(WATCHED, 0.0)

    def check(self, at: float, outcome: Outcome, reason: Reason | None = None) -> None:
        """As the schedule does it: the check is taken in, then the next is planned."""
        self.record.take(ran(at, outcome, reason), 30.0)
        self.record.plan(at, at + 10.0, CircuitStatus(), None)

    def history(self, now: float = 1e6) -> History:
        return self.state.history("db", now)

    def day(self, now: float) -> Availability:
        return self.state.recent("db", now).availability["24h"]


def test_the_last_runs_are_kept_newest_first() -> None:
    """However many there were, with all that a run of the past tells."""
    past = Past(0.0)
    for number in range(3 * RUNS):
        told = past.history(0.0).runs
        assert [run.ended_at for run in told] == [float(n) for n in reversed(range(max(0, number - RUNS), number))]
        past.take(ran(float(number), Outcome.DEGRADED, Reason.SLOW, duration_seconds=0.1 * number, retries=number % 3))
    newest = past.history(0.0).runs[0]
    assert (newest.collector, newest.outcome, newest.reason, newest.retries) == (CHECK, Outcome.DEGRADED, Reason.SLOW, 2)
    assert newest.duration_seconds == 0.1 * (3 * RUNS - 1)
    past.take(ran(0.0, Outcome.SUCCESS))
    assert past.recent(0.0).outcomes == (*(Outcome.DEGRADED,) * (RECENT - 1), Outcome.SUCCESS)


def test_a_rare_failure_outlives_the_runs_around_it() -> None:
    """With its message and what it waited for: it is what somebody looks for a week later."""
    past = Past(0.0)
    past.take(failed(1.0, retries=2, duration_seconds=5.0))
    for number in range(10 * RUNS):
        past.take(ran(2.0 + number))
    (failure,) = past.history(0.0).failures
    assert (failure.collector, failure.outcome, failure.ended_at, failure.duration_seconds) == (CHECK, Outcome.FAILURE, 1.0, 5.0)
    assert (failure.reason, failure.message, failure.retries) == (Reason.TIMEOUT, "no answer within 5s", 2)
    assert failure.phases == WAITS
    assert all(run.outcome is Outcome.SUCCESS for run in past.history(0.0).runs)


def test_a_collector_that_always_fails_does_not_push_out_the_checks_failures() -> None:
    """Both have their room; a right that is missing fails every minute for ever."""
    past = Past(0.0)
    for number in range(3 * FAILURES):
        past.take(failed(float(number)))
    for number in range(1000, 1000 + 3 * FAILURES):
        past.take(failed(float(number), collector="locks"))
        past.take(ran(float(number), collector="activity"))
    told = past.history(0.0).failures
    assert [(run.collector, run.ended_at) for run in told] == [
        *(("locks", float(number)) for number in reversed(range(1000 + 2 * FAILURES, 1000 + 3 * FAILURES))),
        *((CHECK, float(number)) for number in reversed(range(2 * FAILURES, 3 * FAILURES))),
    ]
    assert len(past.history(0.0).runs) == RUNS


def test_a_cancelled_run_leaves_no_trace() -> None:
    """A reload is not an outage."""
    past = Past(0.0)
    past.take(ran(1.0, Outcome.CANCELLED))
    past.take(ran(1.0, Outcome.CANCELLED, collector="locks"))
    assert (past.history(0.0).runs, past.history(0.0).failures) == ((), ())


def test_words_of_any_kind_come_back_as_they_were() -> None:
    """A failure without words, one with a server's odd bytes, and each after its like."""
    past = Past(0.0)
    for message in ("", "Größe — 容量 \udce4", "Größe — 容量 \udce4", "b"):
        past.take(failed(1.0, message))
    assert [run.message for run in past.history(0.0).failures] == [None, *["Größe — 容量 \udce4"] * 2, "b"]


def test_confirmed_changes_are_kept_with_their_reason() -> None:
    """From the first verdict on; a single failed check is none."""
    probe = Remembering()
    for at, outcome in enumerate([Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS, Outcome.FAILURE, Outcome.FAILURE]):
        probe.record.take(failed(float(at)) if outcome is Outcome.FAILURE else ran(float(at)), 30.0)
    assert probe.history().changes == (
        Change(4.0, Status.HEALTHY, Status.UNHEALTHY, Reason.TIMEOUT, "no answer within 5s"),
        Change(0.0, Status.UNKNOWN, Status.HEALTHY),
    )
    for at in range(5, 5 + 4 * CHANGES):
        probe.record.take(failed(float(at)) if at % 4 < 2 else ran(float(at)), 30.0)
    assert len(probe.history().changes) == CHANGES


STEPS = st.lists(
    st.one_of(
        st.tuples(st.floats(0.0, 1200.0), st.sampled_from([Outcome.SUCCESS, Outcome.DEGRADED, Outcome.FAILURE]), st.booleans()),
        st.tuples(st.floats(0.0, 1200.0), st.floats(0.0, 1200.0), st.sampled_from([CircuitStatus(), OPEN, FORCED])),
    ),
    max_size=40,
)


@given(STEPS, st.floats(0.0, 1200.0))
def test_availability_is_what_health_told_all_the_time(
    steps: list[tuple[float, Outcome, bool] | tuple[float, float, CircuitStatus]], last: float
) -> None:
    """The share of the time in which somebody who asked /health without a pause would have read healthy or degraded."""
    probe, now, told = Remembering(), 0.0, dict.fromkeys(Status, 0.0)
    for gap, what, how in [*steps, (last, 0.0, CircuitStatus())]:
        _watch(probe.state, now, now + gap, told)
        now += gap
        if isinstance(what, Outcome):
            probe.check(now, what, Reason.RATE_LIMITED if how and what is Outcome.DEGRADED else None)
        elif isinstance(how, CircuitStatus):
            probe.record.plan(now, now + what, how, None)
    available = probe.day(now)
    goods = told[Status.HEALTHY] + told[Status.DEGRADED]
    assert available.good_seconds == pytest.approx(goods, abs=0.5)
    assert available.observed_seconds == pytest.approx(goods + told[Status.UNHEALTHY], abs=0.5)


def _watch(state: State, begin: float, end: float, told: dict[Status, float]) -> None:
    """Adds up what /health says between two moments, at which alone something is written."""
    snapshot = state.snapshot()
    (probe,) = snapshot.probes
    turns = {probe.overdue, (probe.limited_since or 0.0) + BLIND_SECONDS}
    moments = [begin, *sorted(turn for turn in turns if begin < turn < end), end]
    for one, other in pairwise(moments):
        told[report(snapshot, (one + other) / 2).probes[0].status] += other - one


def test_the_past_belongs_to_the_name() -> None:
    """A probe that is configured anew goes on with it, unknown until its first verdict; what its forerunner still says is lost."""
    probe = Remembering()
    probe.check(0.0, Outcome.SUCCESS)
    before = probe.record
    probe.record = probe.state.add(WATCHED, 20.0, 20.0)
    before.take(failed(21.0), 30.0)
    before.plan(21.0, 1e6, CircuitStatus(), None)
    assert [run.ended_at for run in probe.history(30.0).runs] == [0.0]
    assert probe.day(30.0) == Availability(20.0, 20.0)
    probe.check(30.0, Outcome.SUCCESS)
    assert [(change.at, change.before) for change in probe.history(30.0).changes] == [
        (30.0, Status.UNKNOWN),
        (20.0, Status.HEALTHY),
        (0.0, Status.UNKNOWN),
    ]
    assert probe.day(35.0) == Availability(25.0, 25.0)


def test_a_probe_that_was_removed_is_forgotten() -> None:
    """Its past takes memory; should it come back, it begins anew."""
    probe = Remembering()
    probe.check(0.0, Outcome.SUCCESS)
    probe.state.remove("db")
    probe.state.add(WATCHED, 10.0)
    assert probe.history(20.0).runs == ()
    assert probe.day(20.0).ratio is None


def _size(fill: Callable[[Past, int], None]) -> int:
    """Bytes that one past takes when it is full; of many, for the interpreter keeps some for itself."""
    pasts = [Past(0.0)]
    tracemalloc.start()
    for _ in range(30):
        pasts.append(Past(0.0))
        for number in range(CHANGES + 20):
            fill(pasts[-1], number)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size // 30


def test_memory_is_bounded() -> None:
    """The figures of the module's docstring: all good, a lasting outage, and the most that can be made of it."""
    rng = Random(1)

    def long() -> str:
        return f"{rng.random():.20f}".ljust(MESSAGE_LENGTH, "容")

    def all_good(past: Past, number: int) -> None:
        past.take(ran(float(number) + 0.1, duration_seconds=rng.random()))
        past.stand(float(number), Status.HEALTHY, number + 30.0)

    def outage(past: Past, number: int) -> None:
        waits = tuple(Phase("".join(wait.what), rng.random()) for wait in WAITS)
        past.take(ran(rng.random(), Outcome.FAILURE, Reason.TIMEOUT, message="".join(["no answer ", "in 5s"]), phases=waits))

    def worst(past: Past, number: int) -> None:
        for collector in (CHECK, "locks"):
            waits = tuple(Phase(long().replace("容", "x"), rng.random()) for _ in range(phase.KEPT))
            past.take(ran(rng.random(), Outcome.FAILURE, Reason.TIMEOUT, message=long(), phases=waits, collector=collector))
        past.change(Change(rng.random(), Status.HEALTHY, Status.UNHEALTHY, Reason.TIMEOUT, long()))

    sizes = {fill.__name__: _size(fill) for fill in (all_good, outage, worst)}
    print(sizes)
    assert sizes["all_good"] < 14_000
    assert sizes["outage"] < 28_000
    assert sizes["worst"] < 400_000


def test_an_outage_under_the_schedule_is_remembered_as_it_was() -> None:
    """What failed, what it waited for, when the status changed, and what that did to availability."""

    async def hangs() -> Reading:
        with phase.waiting("resolve db.internal"):
            await asyncio.sleep(0.5)
        with phase.waiting("connect 10.0.0.7:5432"):
            await asyncio.sleep(1e6)
        return Reading()

    async def main() -> None:
        probe = StageProbe("db", stage_settings(interval="10s", timeout="2s", circuit="off"))
        async with Stage(probe) as stage:
            begin = stage.loop.time()
            await asyncio.sleep(100.0)
            probe.act = hangs
            await asyncio.sleep(100.0)
            probe.act = good
            await asyncio.sleep(100.0)
            now = stage.loop.time()
            history = stage.state.history("db", now)
            up, down, first = history.changes
            assert [(change.before, change.after) for change in history.changes] == [
                (Status.UNHEALTHY, Status.HEALTHY),
                (Status.HEALTHY, Status.UNHEALTHY),
                (Status.UNKNOWN, Status.HEALTHY),
            ]
            assert (down.reason, down.message) == (Reason.TIMEOUT, "connect 10.0.0.7:5432: no answer within 2s")
            assert len(history.failures) == sum(run.outcome is Outcome.FAILURE for run in history.runs) >= 10
            for failure in history.failures:
                assert [wait.what for wait in failure.phases] == ["resolve db.internal", "connect 10.0.0.7:5432"]
                assert [wait.seconds for wait in failure.phases] == pytest.approx([0.5, 1.5])
            available = history.availability["1h"]
            assert available.observed_seconds == pytest.approx(EPOCH + now - first.at, abs=0.01)
            assert available.observed_seconds - available.good_seconds == pytest.approx(up.at - down.at, abs=0.01)
            assert now - begin == 300.0

    travel(main())


def test_a_disabled_probe_has_no_past() -> None:
    """It is not looked at, so nothing is known of it."""
    state = State(0.0, 0.0)
    record: Record = state.add(WATCHED, 0.0)
    assert record.status is Status.UNKNOWN
    assert state.recent("db", 7200.0).availability == {"1h": Availability(0.0, 0.0), "24h": Availability(0.0, 0.0)}
    assert state.history("db", 7200.0) == History((), (), (), state.recent("db", 7200.0).availability)
