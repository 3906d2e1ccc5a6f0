"""One running probe: the tasks of its check, its collectors and its listener. Knows no other probe."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from exporter.model import Run, Status
from exporter.probes.base import Collector, Probe
from exporter.schedule.jobs import AnyProbe, check_job, circuit_policy, collector_job
from exporter.schedule.listen import keep_listening
from exporter.schedule.loop import CheckLoop, CollectorLoop, Timing
from exporter.schedule.run import Runner, Tools
from exporter.state import Record

log = logging.getLogger(__name__)


class Scheduled:
    """A probe with its tasks, which begin to run at once; mutable, owned by the schedule.

    `ended` is called with this and each run of its check and its collectors; `confirmed` and `failing` are as they were before it,
    for whoever is called to compare and set.
    """

    def __init__(
        self,
        probe: AnyProbe,
        collectors: Sequence[Collector],
        record: Record,
        tools: Tools,
        ended: "Callable[[Scheduled, Run], None]",
    ) -> None:
        self.probe = probe
        self.record = record
        self.confirmed = Status.UNKNOWN
        self.failing = False
        self._ended: Callable[[Run], None] = lambda run: ended(self, run)
        settings = probe.settings
        timing = Timing(settings.interval, settings.stale_seconds(settings.interval), settings.confirm_seconds)
        runner = Runner(check_job(probe), tools)
        self.loop = CheckLoop(runner, timing, circuit_policy(settings), record, self._ended)
        loops = [self.loop.run(), *(self._collecting(collector, tools) for collector in collectors)]
        if type(probe).listen is not Probe.listen:
            listen = partial(probe.listen, self.loop.ask)
            loops.append(keep_listening(probe.name, listen, probe.translate, tools.redactor, self.loop.collecting))
        self.tasks = [asyncio.create_task(loop, name=f"{probe.name} {number}") for number, loop in enumerate(loops)]
        for task in self.tasks:
            task.add_done_callback(tell_death)

    def _collecting(self, collector: Collector, tools: Tools) -> Coroutine[Any, Any, None]:
        settings, interval = self.probe.settings, collector.interval_seconds
        runner = Runner(collector_job(self.probe, collector), tools)
        timing = Timing(interval, collector.stale_seconds or settings.stale_seconds(interval))
        return CollectorLoop(runner, timing, self.loop.collecting, self.record, self._ended).run()


def tell_death(task: "asyncio.Task[None]") -> None:
    """These tasks raise nothing, and most never end: one that does so is our bug, and its probe will be overdue."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("task %s died: %s; please report it", task.get_name(), type(task.exception()).__name__)
