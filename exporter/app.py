"""The only place where the parts meet: configuration in, a serving process out."""

import asyncio
import gc
import logging
import os
import platform
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from exporter import __version__
from exporter.config import Configuration
from exporter.drivers.dns import Resolver
from exporter.errors import ExporterError, ProbeError
from exporter.exposition import Exposition
from exporter.exposition.own import build
from exporter.exposition.process import Process
from exporter.model import CHECK, CircuitStatus, Family, Outcome, Reason, Run
from exporter.probes.base import Probe, ProbeSettings, Runtime
from exporter.probes.installed import probe_of
from exporter.schedule import Schedule, Tools, run_once
from exporter.secret import Redactor
from exporter.state import State, Watched
from exporter.web import Lifecycle, Sources
from exporter.web.routes import Surface
from exporter.web.server import Server, start

log = logging.getLogger(__name__)

CLOSE_SECONDS = 4.0
"""Kubernetes and Docker kill after their own grace; ours is shorter, so that an end is always an orderly one."""


def watched(name: str, settings: ProbeSettings, configuration: Configuration) -> Watched:
    """What the state must know of a configured probe."""
    return Watched(
        name=name,
        type=settings.type,
        up=settings.up,
        labels=tuple({"probe": name, **configuration.labels, **settings.labels}.items()),
        interval_seconds=settings.interval,
        timeout_seconds=settings.timeout_seconds,
        failure_threshold=settings.failure_threshold,
        success_threshold=settings.success_threshold,
        max_series=settings.max_series,
        critical=settings.critical,
        enabled=settings.enabled,
        depends_on=settings.depends_on,
        aliases=settings.aliases,
        connections=settings.connections(),
    )


class CannotListen(ExporterError):
    """The address cannot be served on; the message says why."""


class Abandoned:
    """Tasks that outlived their cancellation: kept until they end, so that they do not vanish half-way; mutable."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tasks: set[asyncio.Task[object]] = set()

    def add(self, probe: str, task: "asyncio.Task[object]") -> None:
        self._state.abandoned(probe)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: nobody waits for it any more


class Exporter:
    """One configured exporter: its state, its schedule and its page. Create it on the running loop."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._now = asyncio.get_running_loop().time
        self.state = State(self._now(), time.time())
        rng = Random()  # noqa: S311  # spreads waits, guards nothing
        self.tools = Tools(time.time, rng, Redactor(configuration.secrets), Abandoned(self.state).add)
        self.schedule = Schedule(self.state, self.tools)
        self.exposition = Exposition(configuration.labels, self._process_families)
        self.lifecycle = Lifecycle()
        self.runtime = Runtime(configuration.instance, Resolver())
        self._process = Process()
        self._build = build(__version__, os.environ.get("EXPORTER_REVISION", "unknown"), platform.python_version())
        self._http: Callable[[], Iterable[Family]] = tuple
        for name, settings in configuration.probes.items():
            self.state.add(watched(name, settings, configuration), self._now())

    def page(self, openmetrics: bool, *probes: str) -> bytes:
        """The body of /metrics, uncompressed; with names, of these probes alone."""
        return self.exposition.render(self.state.snapshot(), self._now(), openmetrics=openmetrics, probes=probes)

    def _scraped(self, openmetrics: bool, probe: str | None) -> bytes:
        return self.page(openmetrics) if probe is None else self.page(openmetrics, probe)

    async def listen(self) -> Server:
        """Serves from now on; every probe is still unknown.

        Raises:
            CannotListen: the address cannot be used.
        """
        sources = Sources(self.state.snapshot, self._scraped, self._now, time.time, __version__, self.configuration.web)
        surface = Surface(sources, self.lifecycle)
        self._http = surface.tally.families
        try:
            server = await start(self.configuration.listen, surface.application)
        except OSError as error:
            why = error.strerror or str(error)
            raise CannotListen(why.partition(" (while")[0]) from error  # asyncio's text says the address a second time
        self.lifecycle.started = True
        return server

    async def start(self) -> None:
        """Loads the enabled probes and gives them to the schedule. One that cannot be loaded is a failed check, not our end."""
        names = [name for name, settings in self.configuration.probes.items() if settings.enabled]
        for name, probe in zip(names, await self.load(names), strict=True):
            if isinstance(probe, ProbeError):
                self.schedule.refuse(name, probe)
            else:
                self.schedule.add(probe)
        gc.collect()
        gc.freeze()  # what is imported stays: full collections need not walk it again

    async def load(self, names: Sequence[str]) -> list[Probe[Any] | ProbeError]:
        """The named probes, their drivers imported off the loop: that takes longer than a first answer may."""
        return await asyncio.to_thread(lambda: [self._load(name) for name in names])

    def _load(self, name: str) -> Probe[Any] | ProbeError:
        settings = self.configuration.probes[name]
        try:
            return probe_of(settings.type)(name, settings, self.runtime)
        except ProbeError as error:
            return error
        except ImportError as error:
            return ProbeError(Reason.INTERNAL, f"type {settings.type} cannot be loaded: {error.name} is missing; install it again")
        except Exception as error:  # noqa: BLE001  # around one probe, which has no run yet; its text may hold anything
            return ProbeError(Reason.INTERNAL, f"unexpected {type(error).__name__} while it was made; please report it")

    def _process_families(self) -> tuple[Family, ...]:
        return (self._build, *self._process.families(), *self._http())


async def serve(configuration: Configuration, announce: Callable[[str], None]) -> None:
    """Listens, probes, and ends in order after SIGTERM or SIGINT: readiness first, then everything else.

    `announce` is given the URL once it is served. Raises:
        CannotListen: the address cannot be used.
    """
    ended = _signals()
    exporter = Exporter(configuration)
    server = await exporter.listen()
    announce(server.url)
    for warning in configuration.warnings:
        log.warning("%s", warning)
    beat = asyncio.create_task(exporter.schedule.beat(), name="heartbeat")
    starting = asyncio.create_task(exporter.start(), name="start")
    ending = asyncio.create_task(ended.wait(), name="end")
    await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
    await ending
    exporter.lifecycle.draining = True
    log.info("ending: not ready any more, serving for another %gs", configuration.web.drain_seconds)
    await asyncio.sleep(configuration.web.drain_seconds)
    starting.cancel()
    closing = [asyncio.create_task(exporter.schedule.aclose()), asyncio.create_task(server.aclose())]
    await asyncio.wait(closing, timeout=CLOSE_SECONDS)
    beat.cancel()


def _signals() -> asyncio.Event:
    """Set by SIGTERM or SIGINT. SIGHUP must not end us: the shell's default would."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(
        signal.SIGHUP, log.warning, "SIGHUP: reloading is not built in yet; restart to read the configuration again"
    )
    return ended


async def probe_once(configuration: Configuration, names: Sequence[str]) -> tuple[Exporter, dict[str, list[Run]]]:
    """Runs each probe once, collectors included, exactly as the schedule would; returns the state they left and their runs."""
    exporter = Exporter(replace(configuration, probes={name: configuration.probes[name] for name in names}))
    runs: dict[str, list[Run]] = {name: [] for name in names}
    loaded = dict(zip(names, await exporter.load(names), strict=True))

    def record(name: str, run: Run) -> None:
        runs[name].append(run)
        exporter.state.record(name, run, float("inf"))
        exporter.state.plan(name, float("inf"), CircuitStatus(), None)  # there is no next check that could be overdue

    async def once(name: str, probe: Probe[Any] | ProbeError) -> None:
        if isinstance(probe, ProbeError):
            exporter.schedule.refuse(name, probe)
            runs[name].append(exporter.schedule.refused_run(probe))
            return
        exporter.schedule.attach(probe)
        await run_once(probe, exporter.tools, partial(record, name))

    await asyncio.gather(*(once(name, probe) for name, probe in loaded.items()))
    return exporter, runs


def failed(runs: Iterable[Run]) -> bool:
    """Whether the check among the runs failed."""
    return any(run.collector == CHECK and run.outcome in (Outcome.FAILURE, Outcome.CANCELLED) for run in runs)
