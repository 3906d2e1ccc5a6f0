"""One task per probe runs its check on the grid, as its circuit allows; one per collector beside it.

Times are the event loop's. What happened goes to the state; nothing here is read by anyone but the schedule.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from exporter.circuit import CLOSED, Circuit, CircuitPolicy, Lease, Verdict
from exporter.model import Outcome, Reason, Run, Skip
from exporter.schedule.changes import CollectorChanges
from exporter.schedule.plan import Grid, first
from exporter.schedule.run import Runner, wake
from exporter.state import Record


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: `confirm_seconds` is the wait while a change is pending, `stale_seconds` the age at which series leave."""

    interval_seconds: float
    stale_seconds: float
    confirm_seconds: float = 0.0


class CheckLoop:
    """The check of one probe, for ever. `checked` is called with every check, once it is recorded."""

    def __init__(
        self, runner: Runner, timing: Timing, policy: CircuitPolicy | None, record: Record, checked: Callable[[Run], None]
    ) -> None:
        self.name = runner.job.probe
        self.collecting = asyncio.Event()
        self._runner = runner
        self._timing = timing
        self._grid = Grid.of(self.name, timing.interval_seconds)
        self._circuit = None if policy is None else Circuit(policy, record.moved)
        self._into = record
        self._checked = checked
        self._woken: asyncio.Future[None] | None = None
        self._planned = 0.0
        self._ended = 0.0
        self._pending = False
        self._asked = False
        self._ask_again = 0.0

    async def run(self) -> None:
        """Returns never; cancelled, it ends within a little more than a second."""
        loop = asyncio.get_running_loop()
        self._plan(first(self.name, loop.time()))
        while True:
            await self._wait()
            began = loop.time()
            if self._circuit is None:
                await self._check(None, began)
            elif (lease := self._begin(self._circuit, began)) is not None:
                await self._check(lease, began)
            planned = self._next(loop.time())
            if planned != self._planned:  # mostly it is as it was when the check was recorded
                self._plan(planned)

    async def _check(self, lease: Lease | None, began: float) -> None:
        asked, self._asked = self._asked, False
        await self._runner.run(partial(self._record, lease), retries=self._closed)
        if asked:
            self._ask_again = self._ended + self._timing.confirm_seconds
        self._skip(Skip.OVERLAP, began, asyncio.get_running_loop().time())

    def ask(self) -> None:
        """Asks for a check, or the trial of an open circuit, now: at most one such per confirm_interval, no sooner than a pending
        change is due to be confirmed, and never within the time of a Retry-After."""
        self._asked = True  # outlasts a check that is under way: it may have looked too early
        pending = self._pending and self._closed
        soonest = self._ended + self._timing.confirm_seconds if pending else self._ask_again
        self.bring_forward(max(soonest, asyncio.get_running_loop().time()))

    def bring_forward(self, at: float) -> None:
        """Has the next check, or the trial of an open circuit, come at `at` or before: there is reason to hope."""
        if self._circuit is not None and not self._closed:
            self._circuit.bring_forward(at)
            self._plan(self._circuit.next_attempt)
        else:
            self._plan(min(self._planned, at))
        if self._woken is not None:
            wake(self._woken)

    @property
    def _closed(self) -> bool:
        return self._circuit is None or self._circuit.closed

    async def _wait(self) -> None:
        """Until the planned moment, which may move meanwhile."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._planned:
            self._woken = loop.create_future()
            timer = loop.call_at(self._planned, wake, self._woken)
            try:
                await self._woken
            finally:
                timer.cancel()

    def _begin(self, circuit: Circuit, now: float) -> Lease | None:
        resting = not circuit.closed
        lease = circuit.begin(now)
        if lease is not None and resting:
            self._skip(Skip.CIRCUIT, self._ended, now)
            self._plan(now)  # half_open is told before its trial
        return lease

    def _record(self, lease: Lease | None, run: Run) -> None:
        self._ended = run.ended
        self._pending = self._into.take(run, self._timing.stale_seconds)
        if self._circuit is not None and lease is not None:
            retry_after = run.reading.retry_after_seconds if run.reading else None
            self._circuit.record(lease, verdict(run), run.ended, self._runner.tools.rng, retry_after)
        self._plan(self._next(run.ended))
        self._let_collect(verdict(run))
        self._checked(run)

    def _let_collect(self, last: Verdict) -> None:
        """Collectors rest while the check fails: a wrong password must not be tried by each of them too."""
        if last is Verdict.FAILED or not self._closed:
            self.collecting.clear()
        elif last is not Verdict.NEUTRAL:
            self.collecting.set()

    def _next(self, now: float) -> float:
        if self._circuit is not None and not self._closed:
            return self._circuit.next_attempt
        if self._pending or self._asked:
            return self._ended + self._timing.confirm_seconds
        return self._grid.next(now)

    def _plan(self, planned: float) -> None:
        self._planned = planned
        status = self._circuit.status if self._circuit is not None else CLOSED
        now = asyncio.get_running_loop().time()
        attempt_at = None if status.next_attempt is None else self._runner.tools.wall() + (planned - now)
        self._into.plan(now, planned, status, attempt_at)

    def _skip(self, reason: Skip, start: float, end: float) -> None:
        passed = self._grid.between(start, end)
        if passed:
            self._into.skipped(reason, passed)


def verdict(run: Run) -> Verdict:
    """What a check means to the circuit."""
    if run.outcome is Outcome.CANCELLED or run.reason is Reason.INTERNAL:
        return Verdict.NEUTRAL
    if run.reason is Reason.RATE_LIMITED:
        return Verdict.LIMITED
    failed = run.outcome is Outcome.FAILURE and run.reason is not Reason.ASSERTION
    return Verdict.FAILED if failed else Verdict.ANSWERED


class CollectorLoop:
    """One collector of one probe, for ever; rests until a check has succeeded, while it fails, and until the circuit is closed.

    `collected` is called with every run, once it is recorded.
    """

    def __init__(
        self, runner: Runner, timing: Timing, may_collect: asyncio.Event, record: Record, collected: Callable[[Run], None]
    ) -> None:
        self._runner = runner
        self._timing = timing
        self._may_collect = may_collect
        self._into = record
        self._collected = collected
        self._changes = CollectorChanges(runner.job.probe)

    async def run(self) -> None:
        """Returns never; cancelled, it ends within a little more than a second."""
        loop = asyncio.get_running_loop()
        job = self._runner.job
        grid = Grid.of(f"{job.probe}/{job.name}", self._timing.interval_seconds)
        while True:
            await self._may_collect.wait()
            await self._runner.run(self._record)
            now = loop.time()
            await asyncio.sleep(grid.next(now) - now)

    def _record(self, run: Run) -> None:
        self._into.take(run, self._timing.stale_seconds)
        if run.outcome is not Outcome.CANCELLED:
            self._changes.heard(run, check_fails=self._into.failing)
        self._collected(run)
