"""One run of a check or a collector, from its start to its record: attempts, deadline, and what becomes of the task.

Whatever a driver, a server or a resolver does, the run is recorded at its deadline; its task is cancelled, its connection
aborted, and a task that outlives its cancellation by a second is abandoned and counted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from traceback import extract_tb

from exporter import phase
from exporter.errors import MESSAGE_LENGTH, ProbeError
from exporter.log import about
from exporter.model import Metric, Outcome, Phase, Reading, Reason, Run
from exporter.retry import PRESETS, RetryPolicy, retrying
from exporter.schedule.flaws import flaw
from exporter.secret import Redactor, one_line

log = logging.getLogger(__name__)

CANCEL_AGAIN_SECONDS = 0.2
ABANDON_SECONDS = 1.0

NO_RETRY = PRESETS["none"]


@dataclass(frozen=True, slots=True)
class Job:
    """What is run: `name` of the collector (CHECK for the check), its deadline, and how to let go of what it holds.

    `declared` are the metrics, by name, that a reading may have.
    """

    probe: str
    name: str
    timeout_seconds: float
    work: Callable[[], Awaitable[Reading]]
    translate: Callable[[Exception], ProbeError | None]
    drop: Callable[[str], None]
    declared: Mapping[str, Metric]
    retry: RetryPolicy = NO_RETRY
    degraded_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What every run is given: the wall clock, randomness, redaction, and where an abandoned task is counted."""

    wall: Callable[[], float]
    rng: Random
    redactor: Redactor
    abandoned: Callable[[str, "asyncio.Task[object]"], None]


@dataclass(slots=True)
class Attempts:
    """The attempts of one run so far, and what they waited for; mutable, owned by the run. `deadline` is in the loop's seconds."""

    deadline: float
    phases: phase.Phases
    retries: int = 0


class Runner:
    """Runs one job again and again, never twice at a time."""

    def __init__(self, job: Job, tools: Tools) -> None:
        self.job = job
        self.tools = tools
        self._reported = ""
        self._with_retries = retrying(self._attempt, job.retry, tools.rng, _may_wait)

    async def run(self, record: Callable[[Run], None], *, retries: bool = True) -> None:
        """One run. `record` is called once, at the latest at the deadline; this returns when the task has ended or is abandoned.

        Cancelled, it lets go of the connection, gives the task its second, and records the run as cancelled.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        attempts = Attempts(began + self.job.timeout_seconds, phase.begin(loop.time))
        work = self._with_retries if retries else self._attempt
        over = loop.create_future()
        task = loop.create_task(_then_wake(work(attempts), over), name=f"{self.job.probe}/{self.job.name}")
        deadline = loop.call_at(attempts.deadline, wake, over)
        try:
            await over
        except asyncio.CancelledError:
            self._drop()
            record(self._ended(Outcome.CANCELLED, began, attempts))
            await self._let_go(task)
            raise
        finally:
            deadline.cancel()
        if task.done():
            record(self._finished(task, began, attempts))
            return
        record(self._overdue(began, attempts))
        self._drop()
        await self._let_go(task)

    async def _attempt(self, attempts: Attempts) -> Reading:
        try:
            return await self.job.work()
        except ProbeError:
            raise
        except (SystemExit, KeyboardInterrupt) as error:  # a library that exits: asyncio would end the process
            raise self._internal(error) from error
        except Exception as error:
            known = self.job.translate(error)
            if known is None:
                raise
            raise known from error

    def _ended(self, outcome: Outcome, began: float, attempts: Attempts, reading: Reading | None = None) -> Run:
        ended = asyncio.get_running_loop().time()
        return Run(
            collector=self.job.name,
            outcome=outcome,
            ended=ended,
            ended_at=self.tools.wall(),
            duration_seconds=ended - began,
            retries=attempts.retries,
            reading=reading,
        )

    def _finished(self, task: "asyncio.Task[Reading]", began: float, attempts: Attempts) -> Run:
        if task.cancelled():  # not by us: a driver that ends a run so would keep its probe green for ever
            self._drop()
            return self._failed(Reason.INTERNAL, "the run was cancelled from within", began, attempts, None)
        error = task.exception()
        if error is None:
            return self._succeeded(task.result(), began, attempts)
        self._drop()
        if not isinstance(error, ProbeError):
            error = self._internal(error)
        wrong = flaw(error.reading, self.job.declared) if error.reading is not None else None
        if wrong is not None:
            return self._flawed(wrong, began, attempts)
        return self._failed(error.reason, error.message, began, attempts, error.reading)

    def _flawed(self, wrong: str, began: float, attempts: Attempts) -> Run:
        self._report(wrong)
        return self._failed(Reason.INTERNAL, wrong, began, attempts, None)

    def _succeeded(self, reading: Reading, began: float, attempts: Attempts) -> Run:
        wrong = flaw(reading, self.job.declared)
        if wrong is not None:
            return self._flawed(wrong, began, attempts)
        run = self._ended(Outcome.SUCCESS, began, attempts, reading)
        if reading.degraded is not None:
            return replace(run, outcome=Outcome.DEGRADED, reason=reading.degraded, message=self._safe(reading.message or ""))
        limit = self.job.degraded_after_seconds
        if limit is not None and run.duration_seconds > limit:
            message = f"took {run.duration_seconds * 1000:.0f}ms, degraded after {limit * 1000:.0f}ms"
            return replace(run, outcome=Outcome.DEGRADED, reason=Reason.SLOW, message=message)
        return run

    def _overdue(self, began: float, attempts: Attempts) -> Run:
        what, reason = attempts.phases.innermost
        within = f"no answer within {self.job.timeout_seconds:g}s"
        return self._failed(reason, f"{what}: {within}" if what else within, began, attempts, None)

    def _failed(self, reason: Reason, message: str, began: float, attempts: Attempts, reading: Reading | None) -> Run:
        run = self._ended(Outcome.FAILURE, began, attempts, reading)
        phases = tuple(Phase(self._safe(past.what), past.seconds) for past in attempts.phases.past)
        return replace(run, reason=reason, message=self._safe(message), phases=phases)

    def _internal(self, error: BaseException) -> ProbeError:
        """An exception nobody expected: told by its class and place, never by its text, which may hold anything."""
        frames = extract_tb(error.__traceback__)
        place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
        told = f"unexpected {type(error).__name__}{place}"
        self._report(told)
        return ProbeError(Reason.INTERNAL, told)

    def _report(self, bug: str) -> None:
        """A bug of ours or of a plug-in's, said once in a row and not with each run."""
        if bug != self._reported:
            self._reported = bug
            log.error("%s; please report it", bug, extra=about(self.job.probe, self.job.name, reason=Reason.INTERNAL))

    def _safe(self, message: str) -> str:
        return one_line(self.tools.redactor.clean(message), MESSAGE_LENGTH)

    def _drop(self) -> None:
        """Aborts what the run holds; a `drop` that raises must not end the probe."""
        try:
            self.job.drop(self.job.name)
        except Exception as error:  # noqa: BLE001  # around one run
            self._report(f"{type(error).__name__} in drop")

    async def _let_go(self, task: "asyncio.Task[Reading]") -> None:
        """Cancels the task again and again for a second: some drivers swallow a cancel. Then it is abandoned, and counted.

        A cancel of our own meanwhile takes effect when that is done.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + ABANDON_SECONDS
        cancelled: asyncio.CancelledError | None = None
        while not task.done() and loop.time() < until:
            task.cancel()
            try:
                await asyncio.wait((task,), timeout=CANCEL_AGAIN_SECONDS)
            except asyncio.CancelledError as error:
                cancelled = error
        if not task.done():
            self.tools.abandoned(self.job.probe, task)
        elif not task.cancelled():
            task.exception()  # seen: it came too late to count
        if cancelled is not None:
            raise cancelled


def _may_wait(attempts: Attempts, seconds: float) -> bool:
    """A wait that would pass the deadline is not begun; each that is begun ends in another attempt, and counts as a retry."""
    if asyncio.get_running_loop().time() + seconds >= attempts.deadline:
        return False
    attempts.retries += 1
    return True


async def _then_wake(work: Awaitable[Reading], over: "asyncio.Future[None]") -> Reading:
    """The work, and whoever waits for its end woken in its last step; asyncio.wait would take another turn of the loop for it."""
    try:
        return await work
    finally:
        wake(over)


def wake(waiting: "asyncio.Future[None]") -> None:
    """Ends a wait that may have ended already."""
    if not waiting.done():
        waiting.set_result(None)
