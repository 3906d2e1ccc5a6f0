"""One run of some probes, for `exporter probe`: no schedule, no page."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from exporter.app.exporter import Exporter
from exporter.app.loading import Loaded
from exporter.config import Configuration
from exporter.errors import ProbeError
from exporter.model import CHECK, CircuitStatus, Outcome, Run
from exporter.schedule import run_once
from exporter.secret import Redactor


async def probe_once(
    configuration: Configuration, redactor: Redactor, names: Sequence[str]
) -> tuple[Exporter, dict[str, list[Run]]]:
    """Runs each probe once, collectors included, exactly as the schedule would; returns the state they left and their runs."""
    chosen = {name: configuration.probes[name] for name in names}
    exporter = Exporter(replace(configuration, probes=chosen), redactor)
    runs: dict[str, list[Run]] = {name: [] for name in names}

    def note(name: str, run: Run) -> None:
        runs[name].append(run)
        record = exporter.state.of(name)
        record.take(run, float("inf"))
        record.plan(run.ended, float("inf"), CircuitStatus(), None)  # there is no next check that could be overdue

    async def once(name: str, probe: Loaded) -> None:
        if isinstance(probe, ProbeError):
            exporter.schedule.refuse(name, probe)
            runs[name].append(exporter.schedule.refused_run(probe))
            return
        try:
            exporter.schedule.attach(probe)
        except ProbeError as error:
            await once(name, error)
            return
        await run_once(probe, exporter.tools, partial(note, name))

    await asyncio.gather(*(once(name, probe) for name, probe in (await exporter.load(chosen)).items()))
    return exporter, runs


def failed(runs: Iterable[Run]) -> bool:
    """Whether the check among the runs failed."""
    return any(run.collector == CHECK and run.outcome in (Outcome.FAILURE, Outcome.CANCELLED) for run in runs)
