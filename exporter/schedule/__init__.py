"""Runs probes on their schedule and writes what came of it into the state. Knows no HTTP and no configuration file."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from exporter.circuit import CircuitPolicy, Verdict
from exporter.errors import MESSAGE_LENGTH, ProbeError
from exporter.model import CHECK, CircuitStatus, Outcome, Reason, Run, Status
from exporter.probes.base import Collector, Probe, ProbeSettings, RetrySettings
from exporter.retry import PRESETS, RetryPolicy
from exporter.schedule.listen import keep_listening
from exporter.schedule.loop import CheckLoop, CollectorLoop, Timing, verdict
from exporter.schedule.run import Job, Runner, Tools
from exporter.secret import one_line
from exporter.state import Live, State

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
RECOVERY_SPREAD_SECONDS = 1.0
CLOSE_SECONDS = 1.0

AnyProbe = Probe[Any]


def retry_policy(settings: ProbeSettings) -> RetryPolicy:
    """The attempts of one run of such a probe."""
    chosen = settings.retry or settings.default_retry
    if isinstance(chosen, RetrySettings):
        return RetryPolicy(chosen.attempts, chosen.initial, chosen.max)
    return PRESETS[chosen]


def circuit_policy(settings: ProbeSettings) -> CircuitPolicy | None:
    """The circuit as configured, None where it is off."""
    written = settings.circuit_settings
    if written is None:
        return None
    return CircuitPolicy(
        interval_seconds=settings.interval,
        open_after=settings.open_after,
        close_after=written.close_after,
        max_wait_seconds=settings.max_wait_seconds,
        max_retry_after_seconds=written.max_retry_after,
        confirm_seconds=settings.confirm_seconds,
    )


def check_job(probe: AnyProbe) -> Job:
    settings = probe.settings
    return Job(
        probe=probe.name,
        name=CHECK,
        timeout_seconds=settings.timeout_seconds,
        work=probe.check,
        translate=probe.translate,
        drop=probe.drop,
        retry=retry_policy(settings),
        degraded_after_seconds=settings.degraded_after,
    )


def collector_job(probe: AnyProbe, collector: Collector) -> Job:
    return Job(
        probe=probe.name,
        name=collector.name,
        timeout_seconds=collector.timeout_seconds,
        work=collector.run,
        translate=probe.translate,
        drop=probe.drop,
        retry=retry_policy(probe.settings),
    )


@dataclass(slots=True)
class Scheduled:
    """A probe that is running, with its tasks; mutable, owned by the schedule."""

    probe: AnyProbe
    loop: CheckLoop
    tasks: "list[asyncio.Task[None]]"


class Schedule:
    """All running probes. Use `add` and `remove`; `aclose` ends everything within a little more than two seconds."""

    def __init__(self, state: State, tools: Tools) -> None:
        self._state = state
        self._tools = tools
        self._scheduled: dict[str, Scheduled] = {}
        self._confirmed: dict[str, Status] = {}
        self._failing: set[str] = set()

    def add(self, probe: AnyProbe) -> None:
        """Starts the probe's check, its collectors and its listener."""
        settings = probe.settings
        try:
            collectors = self.attach(probe)
        except Exception as error:  # noqa: BLE001  # around one probe, which has no run yet
            self.refuse(
                probe.name, ProbeError(Reason.INTERNAL, f"unexpected {type(error).__name__} in collectors; please report it")
            )
            return
        timing = Timing(settings.interval, settings.stale_seconds(settings.interval), settings.confirm_seconds)
        runner = Runner(check_job(probe), self._tools)
        check = CheckLoop(runner, timing, circuit_policy(settings), self._state, self._checked)
        loops: list[Coroutine[Any, Any, None]] = [check.run()]
        for collector in collectors:
            stale_seconds = collector.stale_seconds or settings.stale_seconds(collector.interval_seconds)
            collecting = Timing(collector.interval_seconds, stale_seconds)
            job = Runner(collector_job(probe, collector), self._tools)
            loops.append(CollectorLoop(job, collecting, check.collecting, self._state).run())
        if type(probe).listen is not Probe.listen:
            loops.append(keep_listening(probe.name, lambda: probe.listen(check.ask), probe.translate, self._tools.redactor))
        tasks = [asyncio.create_task(loop, name=f"{probe.name} {number}") for number, loop in enumerate(loops)]
        for task in tasks:
            task.add_done_callback(_tell_death)
        self._scheduled[probe.name] = Scheduled(probe, check, tasks)

    def attach(self, probe: AnyProbe) -> tuple[Collector, ...]:
        """Tells the state where to ask the probe, and which collectors it has; returns these."""
        collectors = probe.collectors()
        self._state.attach(probe.name, Live(probe.pool, probe.counters), [collector.name for collector in collectors])
        return collectors

    def refuse(self, name: str, error: ProbeError) -> None:
        """A probe that could not be made: one failed check that stands until it is configured anew."""
        log.error("%s: %s", name, error.message)
        run = self.refused_run(error)
        for _ in range(self._state.failure_threshold(name)):
            self._state.record(name, run, 0.0)
        self._state.plan(name, float("inf"), CircuitStatus(), None)

    def refused_run(self, error: ProbeError) -> Run:
        """The check that such a probe never had."""
        now = asyncio.get_running_loop().time()
        message = one_line(self._tools.redactor.clean(error.message), MESSAGE_LENGTH)
        return Run(CHECK, Outcome.FAILURE, now, self._tools.wall(), 0.0, reason=error.reason, message=message)

    async def remove(self, *names: str) -> None:
        """Ends the probes' tasks and closes their connections, all at once and in bounded time."""
        ending = [self._scheduled.pop(name) for name in names if name in self._scheduled]
        for name in names:
            self._confirmed.pop(name, None)
            self._failing.discard(name)
        tasks = [task for scheduled in ending for task in scheduled.tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2 * CLOSE_SECONDS)
        closing = {asyncio.create_task(scheduled.probe.aclose()): scheduled.probe.name for scheduled in ending}
        if closing:
            closed, hanging = await asyncio.wait(closing, timeout=CLOSE_SECONDS)
            for task in closed:
                _tell_death(task)
            for task in hanging:
                task.cancel()
                self._tools.abandoned(closing[task], task)

    async def aclose(self) -> None:
        await self.remove(*self._scheduled)

    async def beat(self) -> None:
        """The heartbeat, once a second, for ever: how late it wakes up is the loop's lag."""
        loop = asyncio.get_running_loop()
        while True:
            planned = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._state.beat(loop.time(), max(0.0, loop.time() - planned))

    def _checked(self, name: str) -> None:
        """A change is told; a parent is looked at when a child begins to fail, and its children once it has recovered."""
        before = self._confirmed.get(name, Status.UNKNOWN)
        now = self._confirmed[name] = self._state.status(name)
        if now is not before:
            log.log(logging.INFO if now is Status.HEALTHY else logging.WARNING, "%s: %s", name, self._state.sentence(name))
        if before is Status.UNHEALTHY and now is not Status.UNHEALTHY:
            self._try_children(name)
        if not self._state.failing(name):
            self._failing.discard(name)
        elif name not in self._failing:
            self._failing.add(name)
            self._ask_parents(name)

    def _try_children(self, name: str) -> None:
        """Within a second, spread, so that a broker that has just come back is not met by all at once."""
        moment = asyncio.get_running_loop().time()
        for scheduled in self._scheduled.values():
            if name in scheduled.probe.settings.depends_on:
                scheduled.loop.parent_recovered(moment + self._tools.rng.uniform(0.0, RECOVERY_SPREAD_SECONDS))

    def _ask_parents(self, name: str) -> None:
        """So that the root cause stands beside the failure, and not one interval of the parent later."""
        for parent in self._scheduled[name].probe.settings.depends_on:
            if parent in self._scheduled and not self._state.failing(parent):
                self._scheduled[parent].loop.ask()


def _tell_death(task: "asyncio.Task[None]") -> None:
    """These tasks raise nothing, and most never end: one that does so is our bug, and its probe will be overdue."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("task %s died: %s; please report it", task.get_name(), type(task.exception()).__name__)


async def run_once(probe: AnyProbe, tools: Tools, record: Callable[[Run], None]) -> None:
    """One check, then, unless it failed, every collector once, exactly as the schedule would run them.

    `record` is told of each run. The probe is closed at the end, within a second.
    """
    runs: list[Run] = []

    def note(run: Run) -> None:
        runs.append(run)
        record(run)

    await Runner(check_job(probe), tools).run(note)
    if verdict(runs[0]) is not Verdict.FAILED:
        await asyncio.gather(*(Runner(collector_job(probe, collector), tools).run(note) for collector in probe.collectors()))
    await asyncio.wait((asyncio.create_task(probe.aclose()),), timeout=CLOSE_SECONDS)


__all__ = ["Schedule", "Tools", "run_once"]
