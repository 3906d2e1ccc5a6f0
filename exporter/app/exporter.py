"""The only place where the parts meet: a configuration becomes state, schedule and page, and later another one takes its place."""

import asyncio
import gc
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from random import Random

from exporter import __version__
from exporter.app import loading
from exporter.app.difference import Difference, difference
from exporter.app.loading import Loaded
from exporter.config import Configuration
from exporter.drivers.dns import Resolver
from exporter.errors import ExporterError, ProbeError
from exporter.exposition import Exposition
from exporter.exposition.own import build
from exporter.exposition.process import Process
from exporter.model import Family
from exporter.probes.base import ProbeSettings, Runtime
from exporter.schedule import Schedule, Tools
from exporter.secret import Redactor
from exporter.state import State, Watched
from exporter.web import Commands, Lifecycle, Sources
from exporter.web.routes import Surface
from exporter.web.server import Server, start


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
    """One configured exporter: its state, its schedule and its page. Create it on the running loop.

    `redactor` is the one that log lines pass too. `auth_failed` is called with the name of a probe whose credentials were refused.
    """

    def __init__(self, configuration: Configuration, redactor: Redactor) -> None:
        self.configuration = configuration
        self._now = asyncio.get_running_loop().time
        self.state = State(self._now(), time.time())
        rng = Random()  # noqa: S311  # spreads waits, guards nothing
        self.tools = Tools(time.time, rng, redactor, Abandoned(self.state).add)
        self.auth_failed: Callable[[str], None] = lambda _: None
        self.schedule = Schedule(self.state, self.tools, self._auth_failed)
        self.exposition = Exposition(configuration.labels, self._process_families)
        self.lifecycle = Lifecycle()
        self._runtime = Runtime(configuration.instance, Resolver())
        self._process = Process()
        self._build = build(__version__, os.environ.get("EXPORTER_REVISION", "unknown"), platform.python_version())
        self._http: Callable[[], Iterable[Family]] = tuple
        for name, settings in configuration.probes.items():
            self.state.add(watched(name, settings, configuration), self._now())

    def _auth_failed(self, name: str) -> None:
        self.auth_failed(name)

    def page(self, openmetrics: bool, *probes: str) -> bytes:
        """The body of /metrics, uncompressed; with names, of these probes alone."""
        return self.exposition.render(self.state.snapshot(), self._now(), openmetrics=openmetrics, probes=probes)

    def _scraped(self, openmetrics: bool, probe: str | None) -> bytes:
        return self.page(openmetrics) if probe is None else self.page(openmetrics, probe)

    async def listen(self, commands: Commands | None = None) -> Server:
        """Serves from now on; every probe is still unknown.

        Raises:
            CannotListen: the address cannot be used.
        """
        sources = Sources(
            snapshot=self.state.snapshot,
            metrics=self._scraped,
            now=self._now,
            wall=time.time,
            version=__version__,
            web=lambda: self.configuration.web,
            recent=lambda probe: self.state.recent(probe, self._now()),
            history=lambda probe: self.state.history(probe, self._now()),
        )
        surface = Surface(sources, self.lifecycle, commands)
        self._http = surface.tally.families
        try:
            server = await start(self.configuration.listen, surface.application, surface.refused)
        except OSError as error:
            why = error.strerror or str(error)
            raise CannotListen(why.partition(" (while")[0]) from error  # asyncio's text says the address a second time
        self.lifecycle.started = True
        return server

    async def start(self) -> None:
        """Loads the enabled probes and gives them to the schedule, each type as soon as its code is there.

        One that cannot be loaded is a failed check, not our end.
        """

        async def begin(probes: Mapping[str, ProbeSettings]) -> None:
            self._begin(await loading.of_one_type(probes, self._runtime))

        await asyncio.gather(*map(begin, loading.by_type(loading.enabled(self.configuration.probes))))
        gc.collect()
        gc.freeze()  # what is imported stays: full collections need not walk it again

    async def load_changed(self, new: Configuration) -> dict[str, Loaded]:
        """The probes that another configuration brings, made and not yet at work: nothing is touched."""
        change = difference(self.configuration, new)
        self.tools.redactor.learn(new.secrets)
        runtime = replace(self._runtime, instance=new.instance)
        chosen = {name: new.probes[name] for name in (*change.added, *change.changed)}
        return await loading.load(loading.enabled(chosen), runtime)

    async def load(self, chosen: Mapping[str, ProbeSettings]) -> dict[str, Loaded]:
        """These probes, whether they are enabled or not."""
        return await loading.load(chosen, self._runtime)

    async def apply(self, new: Configuration, loaded: Mapping[str, Loaded]) -> Difference:
        """Takes over another configuration, its probes loaded; returns what it has changed, within a few seconds.

        A probe that is as it was keeps its connections, its circuit and its series; one that is gone is seen no more at once, and
        one that is different begins anew, its own counts apart.
        """
        change = difference(self.configuration, new)
        self._runtime = replace(self._runtime, instance=new.instance)
        self._show(new, change)
        await self.schedule.remove(*change.removed, *change.changed)
        self._begin(loaded)
        return change

    def _show(self, new: Configuration, change: Difference) -> None:
        """From this moment on readers see the new configuration, in one step."""
        self.configuration = new
        self.exposition.relabel(new.labels)
        for name in change.removed:
            self.state.remove(name)
        for name in change.changed:
            self.exposition.forget(name)
        for name in (*change.added, *change.changed):
            self.state.add(watched(name, new.probes[name], new), self._now(), time.time())
        for name in change.kept:
            self.state.of(name).relabel(watched(name, new.probes[name], new).labels)

    def _begin(self, loaded: Mapping[str, Loaded]) -> None:
        for name, probe in loaded.items():
            if isinstance(probe, ProbeError):
                self.schedule.refuse(name, probe)
            else:
                self.schedule.add(probe)

    def _process_families(self) -> tuple[Family, ...]:
        return (self._build, *self._process.families(), *self._http())
