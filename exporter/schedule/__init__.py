"""Runs probes on their schedule and writes what came of it into the state. Knows no HTTP and no configuration file."""

import asyncio
import logging
from collections.abc import Callable

from exporter.circuit import Verdict
from exporter.errors import MESSAGE_LENGTH, ProbeError
from exporter.log import about
from exporter.model import CHECK, CircuitStatus, Outcome, Reason, Run, Status
from exporter.probes.base import Collector
from exporter.schedule.asked import Asked
from exporter.schedule.changes import tell_change
from exporter.schedule.jobs import AnyProbe, check_job, collector_job
from exporter.schedule.loop import verdict
from exporter.schedule.run import Runner, Tools
from exporter.schedule.scheduled import Scheduled, tell_death
from exporter.secret import one_line
from exporter.state import Live, State

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
RECOVERY_SPREAD_SECONDS = 1.0
CLOSE_SECONDS = 1.0


class Schedule:
    """All running probes. Use `add` and `remove`; `aclose` ends everything within a little more than two seconds.

    `auth_failed` is called with a probe's name after every run, of its check or a collector, that its target refused for its
    credentials.
    """

    def __init__(self, state: State, tools: Tools, auth_failed: Callable[[str], None] = lambda _: None) -> None:
        self._state = state
        self._tools = tools
        self._auth_failed = auth_failed
        self._scheduled: dict[str, Scheduled] = {}

    def add(self, probe: AnyProbe) -> None:
        """Starts the probe's check, its collectors and its listener."""
        try:
            collectors = self.attach(probe)
        except ProbeError as error:
            self.refuse(probe.name, error)
            return
        except Exception as error:  # noqa: BLE001  # around one probe, which has no run yet
            told = f"unexpected {type(error).__name__} in collectors; please report it"
            self.refuse(probe.name, ProbeError(Reason.INTERNAL, told))
            return
        record = self._state.of(probe.name)
        self._scheduled[probe.name] = Scheduled(probe, collectors, record, self._tools, self._ended)

    def attach(self, probe: AnyProbe) -> tuple[Collector, ...]:
        """Tells the state where to ask the probe, and which collectors it has; returns these.

        Raises:
            ProbeError: reason internal; a collector that cannot be run.
        """
        collectors = probe.collectors()
        names = [CHECK, *(collector.name for collector in collectors)]
        for collector in collectors:
            if names.count(collector.name) > 1 or not (collector.interval_seconds > 0 and collector.timeout_seconds > 0):
                told = f"collector {collector.name}: a name that is taken, or no interval or timeout above 0; please report it"
                raise ProbeError(Reason.INTERNAL, told)
        asked = Asked(probe)
        self._state.of(probe.name).attach(Live(asked.pool, asked.counters), [collector.name for collector in collectors])
        return collectors

    def refuse(self, name: str, error: ProbeError) -> None:
        """A probe that could not be made: one failed check that stands until it is configured anew."""
        log.error("%s", error.message, extra=about(name, reason=error.reason))
        run, record = self.refused_run(error), self._state.of(name)
        for _ in range(record.watched.failure_threshold):
            record.take(run, 0.0)
        record.plan(run.ended, float("inf"), CircuitStatus(), None)

    def refused_run(self, error: ProbeError) -> Run:
        """The check that such a probe never had."""
        now = asyncio.get_running_loop().time()
        message = one_line(self._tools.redactor.clean(error.message), MESSAGE_LENGTH)
        return Run(CHECK, Outcome.FAILURE, now, self._tools.wall(), 0.0, reason=error.reason, message=message)

    async def remove(self, *names: str) -> None:
        """Ends the probes' tasks and closes their connections, all at once and in bounded time."""
        ending = [self._scheduled.pop(name) for name in names if name in self._scheduled]
        tasks = [task for scheduled in ending for task in scheduled.tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            _, hanging = await asyncio.wait(tasks, timeout=2 * CLOSE_SECONDS)
            for name, task in ((one.probe.name, task) for one in ending for task in one.tasks if task in hanging):
                task.cancel()
                self._tools.abandoned(name, task)
        closing = {asyncio.create_task(scheduled.probe.aclose()): scheduled.probe.name for scheduled in ending}
        if closing:
            closed, hanging = await asyncio.wait(closing, timeout=CLOSE_SECONDS)
            for task in closed:
                tell_death(task)
            for task in hanging:
                task.cancel()
                self._tools.abandoned(closing[task], task)

    def ask(self, name: str) -> bool:
        """Asks for a check of the probe now. False, and nothing happens, where it does not run."""
        scheduled = self._scheduled.get(name)
        if scheduled is None:
            return False
        scheduled.loop.ask()
        return True

    async def aclose(self) -> None:
        await self.remove(*self._scheduled)

    async def beat(self, *told: Callable[[], None]) -> None:
        """The heartbeat, once a second, for ever: how late it wakes up is the loop's lag. Each of `told` is called with it."""
        loop = asyncio.get_running_loop()
        while True:
            planned = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._state.beat(loop.time(), max(0.0, loop.time() - planned), self._tools.wall())
            for tell in told:
                tell()

    def _ended(self, scheduled: Scheduled, run: Run) -> None:
        if self._scheduled.get(scheduled.probe.name) is not scheduled:
            return  # it is on its way out: what it still says concerns nobody
        if run.collector == CHECK:
            self._checked(scheduled, run)
        if run.reason is Reason.AUTH:
            self._auth_failed(scheduled.probe.name)

    def _checked(self, scheduled: Scheduled, run: Run) -> None:
        """A change is told; a parent is looked at when a child begins to fail, and its children once it has recovered."""
        name, record = scheduled.probe.name, scheduled.record
        before, scheduled.confirmed = scheduled.confirmed, record.status
        began_to_fail, scheduled.failing = record.failing and not scheduled.failing, record.failing
        if record.status is not before:
            tell_change(record, run)
        if before is Status.UNHEALTHY and record.status is not Status.UNHEALTHY:
            self._try_children(name)
        if began_to_fail:
            self._ask_parents(scheduled)

    def _try_children(self, name: str) -> None:
        """Within a second, spread, so that a broker that has just come back is not met by all at once."""
        moment = asyncio.get_running_loop().time()
        for scheduled in self._scheduled.values():
            if name in scheduled.probe.settings.depends_on:
                scheduled.loop.bring_forward(moment + self._tools.rng.uniform(0.0, RECOVERY_SPREAD_SECONDS))

    def _ask_parents(self, child: Scheduled) -> None:
        """So that the root cause stands beside the failure, and not one interval of the parent later."""
        for name in child.probe.settings.depends_on:
            parent = self._scheduled.get(name)
            if parent is not None and not parent.record.failing:
                parent.loop.ask()


async def run_once(probe: AnyProbe, tools: Tools, record: Callable[[Run], None]) -> None:
    """One check, then, if the target answered, every collector once, exactly as the schedule would run them.

    `record` is told of each run. The probe is closed at the end, within a second.
    """
    runs: list[Run] = []

    def note(run: Run) -> None:
        runs.append(run)
        record(run)

    await Runner(check_job(probe), tools).run(note)
    if verdict(runs[0]) is Verdict.ANSWERED:
        await asyncio.gather(*(Runner(collector_job(probe, collector), tools).run(note) for collector in probe.collectors()))
    await asyncio.wait((asyncio.create_task(probe.aclose()),), timeout=CLOSE_SECONDS)


__all__ = ["Schedule", "Tools", "run_once"]
