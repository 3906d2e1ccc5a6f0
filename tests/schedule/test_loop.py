"""The schedule of whole probes on a clock that jumps."""

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest

from exporter.errors import ProbeError
from exporter.model import CircuitState, Family, Outcome, PoolUse, Reading, Reason, Skip, Status
from exporter.probes.base import Collector
from tests.schedule.stage import Stage, StageProbe, good, stage_settings
from tests.schedule.timetravel import travel


async def down() -> Reading:
    raise ProbeError(Reason.REFUSED, "connect 127.0.0.1:1: connection refused", retryable=False)


async def hang() -> Reading:
    await asyncio.sleep(1e6)
    return Reading()


def test_checks_follow_the_grid() -> None:
    """A monotonic grid: no drift, however long a check takes."""

    async def main() -> list[float]:
        async def slow() -> Reading:
            await asyncio.sleep(1.3)
            return Reading()

        probe = StageProbe("db", stage_settings(interval="10s"), slow)
        async with Stage(probe) as stage:
            await stage.checks(6)
        return probe.began

    began = travel(main())
    assert began[0] - 1000.0 <= 0.5
    gaps = [later - earlier for earlier, later in pairwise(began[1:])]
    assert gaps == pytest.approx([10.0] * 4)


def test_a_change_is_confirmed_quickly_and_off_the_grid() -> None:
    """Two checks in a row confirm it, the second confirm_interval after the first."""

    async def main() -> tuple[float, float, float]:
        probe = StageProbe("db", stage_settings(interval="60s", timeout="2s"))
        async with Stage(probe) as stage:
            await stage.checks(2)
            probe.act = down
            await stage.checks(3)
            assert stage.status().status is Status.HEALTHY
            await stage.checks(4)
            assert stage.status().status is Status.UNHEALTHY
            assert (stage.status().reason, stage.status().message) == (Reason.REFUSED, "connect 127.0.0.1:1: connection refused")
            await stage.checks(5)
        return probe.began[3] - probe.began[2], probe.began[2] - probe.began[1], probe.began[4] - probe.began[2]

    confirm, grid, back = travel(main())
    assert confirm == pytest.approx(5.0)
    assert grid == pytest.approx(60.0)
    assert back == pytest.approx(60.0)


def test_the_first_success_is_healthy_and_the_first_failure_is_not_yet_unhealthy() -> None:
    """Start-up shows neither a false green nor a one-shot red."""

    async def main() -> tuple[Status, Status]:
        async with Stage(StageProbe("good", stage_settings()), StageProbe("bad", stage_settings(), down)) as stage:
            await asyncio.sleep(1.0)
            return stage.status(0).status, stage.status(1).status

    assert travel(main()) == (Status.HEALTHY, Status.UNKNOWN)


def test_an_outage_opens_the_circuit_and_a_repair_closes_it_through_trials() -> None:
    """closed, open, half_open, closed; skipped checks are counted, and never two checks at once."""

    async def main() -> None:
        probe = StageProbe("db", stage_settings(interval="10s", timeout="2s", retry="fast"), down)
        async with Stage(probe) as stage:
            await stage.checks(5)
            assert stage.status().circuit.state is CircuitState.OPEN
            before = len(probe.began)
            await asyncio.sleep(3600)
            assert len(probe.began) - before <= 3600 / (0.8 * 40) + 3
            assert stage.status().status is Status.UNHEALTHY
            skipped = stage.tally().skipped[Skip.CIRCUIT]
            assert skipped == pytest.approx(360, abs=10)
            probe.act = good
            repaired = stage.loop.time()
            await stage.until(lambda: stage.status().status is Status.HEALTHY)
            assert stage.loop.time() - repaired <= 40 + 2 * (5 + 2)
            assert stage.status().circuit.state is CircuitState.CLOSED
            transitions = {pair: count for pair, count in stage.tally().transitions.items() if count}
            closed, opened, half = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
            assert transitions[closed, opened] == transitions[half, closed] == 1
            assert transitions[opened, half] == transitions[half, opened] + 1
            assert probe.most_running == 1

    travel(main())


def test_an_open_circuit_stays_unhealthy_and_is_not_overdue() -> None:
    """A circuit stretches the schedule, it never hides a state."""

    async def main() -> None:
        probe = StageProbe("db", stage_settings(interval="10s"), down)
        async with Stage(probe) as stage:
            await stage.checks(7)
            status = stage.status()
            assert status.circuit.next_attempt is not None
            assert status.overdue == pytest.approx(status.circuit.next_attempt + 5 + 20)

    travel(main())


def test_a_circuit_switched_off_stays_on_the_grid() -> None:
    """`circuit: off` is for targets that must be seen every time."""

    async def main() -> None:
        probe = StageProbe("db", stage_settings(interval="10s", circuit="off"), down)
        async with Stage(probe) as stage:
            await stage.checks(30)
            assert stage.status().circuit.state is CircuitState.CLOSED
        assert probe.began[-1] - probe.began[2] == pytest.approx(270.0)

    travel(main())


def test_a_hung_probe_leaves_the_others_on_time() -> None:
    """No global semaphore, no shared queue."""

    async def main() -> list[float]:
        hung = [StageProbe(f"hung-{number}", stage_settings(interval="10s", circuit="off"), hang) for number in range(50)]
        fine = StageProbe("fine", stage_settings(interval="10s"))
        async with Stage(fine, *hung) as stage:
            await stage.checks(20)
        return fine.began

    gaps = [later - earlier for earlier, later in pairwise(travel(main())[1:])]
    assert gaps == pytest.approx([10.0] * len(gaps))


def test_overlapped_slots_are_skipped_and_counted() -> None:
    """A run that takes as long as the interval passes over the slot that fell into it."""

    async def main() -> tuple[int, int]:
        probe = StageProbe("db", stage_settings(interval="2s", timeout="2s", circuit="off", failure_threshold=99), hang)
        async with Stage(probe) as stage:
            await stage.checks(10)
            return stage.tally().skipped[Skip.OVERLAP], probe.most_running

    overlaps, most = travel(main())
    assert overlaps >= 1
    assert most == 1


def test_an_unexpected_exception_is_internal_and_the_probe_lives_on() -> None:
    """A bug of ours in one check must not end the probe, nor open the circuit."""

    async def broken() -> Reading:
        raise ZeroDivisionError

    async def main() -> None:
        probe = StageProbe("db", stage_settings(interval="10s"), broken)
        async with Stage(probe) as stage:
            await stage.checks(20)
            assert stage.tally().failures == {Reason.INTERNAL: 20}
            assert stage.status().circuit.state is CircuitState.CLOSED
            probe.act = good
            await stage.checks(24)
            assert stage.status().status is Status.HEALTHY

    travel(main())


def test_rate_limited_rests_for_its_retry_after() -> None:
    """429 degrades at once and obeys the server's own wait."""

    async def limited() -> Reading:
        return Reading(degraded=Reason.RATE_LIMITED, message="429, Retry-After 300s", retry_after_seconds=300.0)

    async def main() -> float:
        probe = StageProbe("exchange", stage_settings(interval="10s"))
        async with Stage(probe) as stage:
            await stage.checks(1)
            probe.act = limited
            await stage.checks(2)
            assert (stage.status().status, stage.status().reason) == (Status.DEGRADED, Reason.RATE_LIMITED)
            await stage.checks(3)
        return probe.began[2] - probe.began[1]

    assert 300.0 <= travel(main()) <= 301.0


def test_a_failed_assertion_never_opens_the_circuit() -> None:
    """The target answers; it only says the wrong thing."""

    async def wrong() -> Reading:
        raise ProbeError(Reason.ASSERTION, "no")

    async def main() -> None:
        async with Stage(StageProbe("db", stage_settings(interval="10s"), wrong)) as stage:
            await stage.checks(30)
            assert stage.status().circuit.state is CircuitState.CLOSED
            assert stage.status().status is Status.UNHEALTHY

    travel(main())


def test_children_are_tried_within_a_second_of_their_parents_recovery() -> None:
    """Recovery shows in one step, not after each child's own wait."""

    async def main() -> None:
        broker = StageProbe("broker", stage_settings(interval="10s", circuit="off"), down)
        worker = StageProbe("worker", stage_settings(interval="10s", depends_on=["broker"], circuit={"max_wait": "1h"}), down)
        async with Stage(broker, worker) as stage:
            await asyncio.sleep(7200)
            broker.act = worker.act = good
            await stage.until(lambda: stage.status(0).status is Status.HEALTHY)
            recovered = stage.loop.time()
            await asyncio.sleep(2)
            assert worker.began[-1] - recovered <= 1.1

    travel(main())


def test_a_child_whose_circuit_is_closed_is_tried_too() -> None:
    """Its own next check may be minutes away."""

    async def main() -> float:
        broker = StageProbe("broker", stage_settings(interval="5s"), down)
        worker = StageProbe("worker", stage_settings(interval="5m", timeout="5s", depends_on=["broker"]), down)
        async with Stage(broker, worker) as stage:
            await asyncio.sleep(100)
            assert stage.status(1).circuit.state is CircuitState.CLOSED
            broker.act = worker.act = good
            await stage.until(lambda: stage.status(0).status is Status.HEALTHY)
            recovered = stage.loop.time()
            await asyncio.sleep(1.5)
            return worker.began[-1] - recovered

    assert 0 <= travel(main()) <= 1.1


def test_a_parent_is_looked_at_at_once_when_its_children_begin_to_fail() -> None:
    """So the root cause is right beside the first failure; ten children that fail together cost the parent one check."""

    async def main() -> None:
        parent = StageProbe("broker", stage_settings(interval="300s", timeout="2s"))
        children = [
            StageProbe(f"child-{number}", stage_settings(interval="20s", timeout="2s", depends_on=["broker"]))
            for number in range(10)
        ]
        async with Stage(parent, *children) as stage:
            for number in range(11):
                await stage.checks(2 if number else 1, number)
            checked = len(parent.began)
            parent.act = down
            for child in children:
                child.act = down
            await stage.until(lambda: any(stage.status(number).failing for number in range(1, 11)))
            began = stage.loop.time()
            await stage.until(lambda: stage.status().failing)
            assert stage.loop.time() - began <= 0.1
            assert len(parent.began) == checked + 1
            await stage.until(lambda: stage.status().status is Status.UNHEALTHY)
            assert parent.began[checked + 1] - parent.began[checked] == pytest.approx(5.0)  # confirmed no sooner for all of them

    travel(main())


def test_children_that_fail_alone_ask_a_sound_parent_at_most_once_per_confirm_interval() -> None:
    """A child that flaps is not to become a load on the database behind it."""

    async def main() -> None:
        parent = StageProbe("broker", stage_settings(interval="300s"))
        flaps = iter(range(10_000))

        async def flap() -> Reading:
            return await (good() if next(flaps) % 2 else down())

        children = [
            StageProbe(f"child-{number}", stage_settings(interval="1s", depends_on=["broker"]), flap) for number in range(10)
        ]
        async with Stage(parent, *children):
            await asyncio.sleep(100)
        assert 12 <= len(parent.began) <= 100 / 5 + 3

    travel(main())


def test_a_close_that_hangs_is_abandoned_and_counted() -> None:
    """The others are closed, and the end comes in time."""
    free = asyncio.Event()

    class Hanging(StageProbe):
        async def aclose(self) -> None:
            with suppress(asyncio.CancelledError):
                await free.wait()
            await free.wait()

    async def main() -> float:
        stage = Stage(Hanging("hangs", stage_settings()), StageProbe("fine", stage_settings()))
        await stage.__aenter__()
        await stage.checks(1)
        began = stage.loop.time()
        await stage.schedule.aclose()
        took = stage.loop.time() - began
        assert (stage.tally(0).abandoned, stage.tally(1).abandoned, stage.probes[1].closed) == (1, 0, True)
        free.set()
        await asyncio.wait(stage.abandoned)
        return took

    assert travel(main()) <= 3.0


def test_an_error_of_ours_in_a_trial_does_not_hurry_the_next() -> None:
    """It says nothing about the target, which rests as before."""

    async def broken() -> Reading:
        raise ZeroDivisionError

    async def main() -> int:
        probe = StageProbe("db", stage_settings(interval="5m", timeout="5s"), down)
        async with Stage(probe) as stage:
            await stage.until(lambda: stage.status().circuit.state is CircuitState.OPEN)
            probe.act = broken
            before = len(probe.began)
            await asyncio.sleep(3600)
            return len(probe.began) - before

    assert travel(main()) <= 13


def test_collectors_run_beside_the_check_and_rest_while_the_circuit_is_open() -> None:
    """They start with the first good word of the check and spare a target that is down."""
    collected: list[float] = []

    async def collect() -> Reading:
        collected.append(asyncio.get_running_loop().time())
        return Reading()

    async def main() -> tuple[int, int, int]:
        probe = StageProbe("db", stage_settings(interval="10s"), collectors=(Collector("locks", 5.0, 2.0, collect),))
        async with Stage(probe) as stage:
            await stage.checks(5)
            healthy = len(collected)
            probe.act = down
            await stage.until(lambda: stage.status().circuit.state is CircuitState.OPEN)
            opened = len(collected)
            await asyncio.sleep(20)
            resting = len(collected)
            probe.act = good
            await stage.until(lambda: stage.status().circuit.state is CircuitState.CLOSED)
            await asyncio.sleep(6)
            return healthy, resting - opened, len(collected) - resting

    healthy, resting, recovered = travel(main())
    assert healthy >= 6
    assert resting == 0
    assert recovered >= 1


def test_collectors_rest_while_the_check_fails() -> None:
    """A wrong password is tried once a check, not once for each collector too: accounts get locked."""
    collected: list[float] = []

    async def collect() -> Reading:
        collected.append(asyncio.get_running_loop().time())
        return Reading()

    async def refused() -> Reading:
        raise ProbeError(Reason.AUTH, "password authentication failed")

    async def main() -> None:
        probe = StageProbe("db", stage_settings(interval="10s", circuit="off"), refused, (Collector("locks", 1.0, 1.0, collect),))
        async with Stage(probe) as stage:
            await stage.checks(5)
            assert collected == []
            probe.act = good
            await stage.checks(6)
            await asyncio.sleep(1)
            assert collected

    travel(main())


def test_half_open_is_told_before_its_trial() -> None:
    """Whoever looks during the trial sees why the target is spoken to again."""
    seen: list[CircuitState] = []

    async def main() -> None:
        probe = StageProbe("db", stage_settings(interval="10s"), down)
        async with Stage(probe) as stage:
            await stage.until(lambda: stage.status().circuit.state is CircuitState.OPEN)

            async def look() -> Reading:
                seen.append(stage.status().circuit.state)
                raise ProbeError(Reason.REFUSED, "no", retryable=False)

            probe.act = look
            await stage.until(lambda: bool(seen))

    travel(main())
    assert seen == [CircuitState.HALF_OPEN]


def test_a_probe_that_cannot_be_made_is_an_unhealthy_one_and_the_others_go_on() -> None:
    """A broken plug-in or a file that is gone is a finding, not our end."""

    class Broken(StageProbe):
        def collectors(self) -> tuple[Collector, ...]:
            raise ValueError("secret text")

    async def main() -> None:
        async with Stage(Broken("broken", stage_settings()), StageProbe("fine", stage_settings())) as stage:
            await asyncio.sleep(3600)
            broken, fine = stage.status(0), stage.status(1)
            assert (broken.status, broken.reason) == (Status.UNHEALTHY, Reason.INTERNAL)
            assert broken.message == "unexpected ValueError in collectors; please report it"
            assert fine.status is Status.HEALTHY
            assert broken.overdue > stage.loop.time()

    travel(main())


def test_a_failing_collector_leaves_the_probe_up_and_says_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """The check alone decides; the log has one line for it, not one a run."""

    async def refused() -> Reading:
        raise ProbeError(Reason.FORBIDDEN, "no right on pg_locks")

    async def main() -> None:
        probe = StageProbe("db", stage_settings(interval="10s"), collectors=(Collector("locks", 5.0, 2.0, refused),))
        async with Stage(probe) as stage:
            await stage.checks(3)
            collector = stage.status().collectors[0]
            assert (collector.name, collector.success, collector.reason) == ("locks", False, Reason.FORBIDDEN)
            assert stage.status().status is Status.HEALTHY

    with caplog.at_level("WARNING"):
        travel(main())
    assert [record.getMessage() for record in caplog.records] == ["forbidden: no right on pg_locks"]


def test_closing_is_bounded_with_every_probe_hanging() -> None:
    """SIGTERM must end in time whatever the drivers do."""
    free = asyncio.Event()

    async def stubborn() -> Reading:
        while not free.is_set():
            with suppress(asyncio.CancelledError):
                await free.wait()
        return Reading()

    async def main() -> float:
        probes = [StageProbe(f"p{number}", stage_settings(), stubborn) for number in range(20)]
        stage = Stage(*probes)
        await stage.__aenter__()
        await asyncio.sleep(2)
        began = stage.loop.time()
        await stage.schedule.aclose()
        took = stage.loop.time() - began
        assert all(probe.closed for probe in probes)
        assert len(stage.abandoned) == len(probes)
        assert stage.tally().abandoned == 1
        assert stage.tally().runs[Outcome.CANCELLED] == 1
        free.set()
        await asyncio.wait(stage.abandoned)
        return took

    assert travel(main()) <= 3.0


def test_counts_that_break_cost_their_probe_its_counts_and_nobody_the_page(caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot asks every probe; it is what /health and /metrics are made of."""

    class Broken(StageProbe):
        def counters(self) -> tuple[int, tuple[Family, ...]]:
            raise KeyError("secret text")

        def pool(self) -> PoolUse | None:
            raise KeyError("secret text")

    async def main() -> Status:
        async with Stage(Broken("bad", stage_settings()), StageProbe("good", stage_settings())) as stage:
            await stage.checks(1, 1)
            assert stage.tally(0).pool is None
            return stage.status(1).status

    assert travel(main()) is Status.HEALTHY
    assert sorted(record.getMessage() for record in caplog.records if record.levelname == "ERROR") == [
        f"unexpected KeyError in {what}; please report it" for what in ("counters", "pool")
    ]


@pytest.mark.parametrize(("name", "interval"), [("check", 10.0), ("rows", 0.0)])
def test_a_collector_that_cannot_be_run_is_a_finding(name: str, interval: float) -> None:
    """Of a package's probe: run as it says it would spin, or pass for the check."""

    async def main() -> str | None:
        collector = Collector(name, interval, 5.0, good)
        async with Stage(StageProbe("db", stage_settings(), collectors=(collector,))) as stage:
            await stage.until(lambda: stage.status().status is Status.UNHEALTHY)
            return stage.status().message

    assert str(travel(main())).startswith(f"collector {name}: ")
