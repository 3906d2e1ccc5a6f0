"""Whole probes under every sequence of outages that hypothesis thinks of, on a clock that jumps."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from exporter.errors import AssertionFailed, ProbeError
from exporter.model import CircuitState, Outcome, Reading, Reason, Skip, Status
from tests.schedule.stage import Stage, StageProbe, good, stage_settings
from tests.schedule.timetravel import travel

INTERVAL, TIMEOUT, CONFIRM, MAX_WAIT, RETRY_AFTER = 10.0, 2.0, 5.0, 40.0, 90.0
LET_GO = 1.0
"""A second passes until a task that swallows its cancellation is abandoned."""


async def refused() -> Reading:
    raise ProbeError(Reason.REFUSED, "refused", retryable=False)


async def asserted() -> Reading:
    raise AssertionFailed("not as it should be")


async def limited() -> Reading:
    return Reading(degraded=Reason.RATE_LIMITED, message="429", retry_after_seconds=RETRY_AFTER)


async def broken() -> Reading:
    raise RuntimeError("a bug of ours")


async def slow() -> Reading:
    await asyncio.sleep(1.5)
    return Reading()


async def hang() -> Reading:
    await asyncio.sleep(1e6)
    return Reading()


async def deaf() -> Reading:
    """A driver that swallows its cancel, and ends long after."""
    ends = asyncio.get_running_loop().time() + 60
    while (left := ends - asyncio.get_running_loop().time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(left)
    return Reading()


ACTS = (good, refused, asserted, limited, broken, slow, hang, deaf)
Act = Callable[[], Awaitable[Reading]]
outages = st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from(ACTS), st.floats(0.1, 200.0)), max_size=8)


@hypothesis_settings(max_examples=200, deadline=None)
@given(outages=outages)
def test_whatever_happened_a_target_that_answers_is_healthy_again_in_time(outages: list[tuple[Act, Act, float]]) -> None:
    """No sequence leaves a probe stuck, hides it, loses a check or calls it healthy while it is not looked at."""

    async def main() -> None:
        keys = {"interval": f"{INTERVAL:g}s", "timeout": f"{TIMEOUT:g}s"}
        parent = StageProbe("broker", stage_settings(**keys))
        child = StageProbe("worker", stage_settings(**keys, depends_on=["broker"]))
        async with Stage(parent, child) as stage:
            began = stage.loop.time()
            for parents, childs, seconds in outages:
                parent.act, child.act = parents, childs
                await asyncio.sleep(seconds)
                assert stage.status().overdue > stage.loop.time()
            parent.act = child.act = good
            await asyncio.sleep(RETRY_AFTER + MAX_WAIT + TIMEOUT + LET_GO + 3 * (CONFIRM + TIMEOUT))
            for number in (0, 1):
                assert stage.status(number).status is Status.HEALTHY
                assert stage.status(number).circuit.state is CircuitState.CLOSED
            slots = (stage.loop.time() - began) / INTERVAL
            for number, probe in enumerate((parent, child)):
                tally = stage.tally(number)
                accounted = sum(tally.runs.values()) + tally.skipped[Skip.CIRCUIT] + tally.skipped[Skip.OVERLAP]
                assert accounted >= slots - 2  # each slot was run, or its skip is counted
                assert tally.runs[Outcome.CANCELLED] == 0
                assert probe.most_running <= 1 + tally.abandoned  # what was abandoned may still run
            steps = stage.tally().transitions
            opened = sum(count for (_, to), count in steps.items() if to is CircuitState.OPEN)
            assert opened == sum(count for (source, _), count in steps.items() if source is CircuitState.OPEN)

    travel(main())
