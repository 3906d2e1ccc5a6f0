"""A probe that does as it is told, and a schedule around it on a clock that jumps."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import ClassVar, Self

from exporter.drivers.dns import Resolver
from exporter.errors import ProbeError
from exporter.model import CHECK, Kind, Metric, Outcome, ProbeStatus, ProbeTally, Reading
from exporter.probes.base import Collector, Probe, ProbeSettings, Runtime
from exporter.schedule import Schedule, Tools
from exporter.secret import Redactor, Secret
from exporter.state import State, Watched

EPOCH = 1_700_000_000.0


NUMBER = Metric("stage_number", Kind.GAUGE, "What a reading may have.")


class StageSettings(ProbeSettings):
    up: ClassVar[Metric] = Metric("stage_up", Kind.GAUGE, "Whether it is up.")

    def declared(self) -> tuple[Metric, ...]:
        return (self.up, NUMBER)


Act = Callable[[], Awaitable[Reading]]


async def good() -> Reading:
    return Reading()


class StageProbe(Probe[StageSettings]):
    """`act` is what a check does; change it while it runs. Remembers when checks began and what was dropped."""

    def __init__(self, name: str, settings: StageSettings, act: Act = good, collectors: tuple[Collector, ...] = ()) -> None:
        super().__init__(name, settings, Runtime("test", Resolver()))
        self.act = act
        self.began: list[float] = []
        self.running = 0
        self.most_running = 0
        self.dropped: list[str] = []
        self.closed = False
        self._collectors = collectors

    async def check(self) -> Reading:
        self.began.append(asyncio.get_running_loop().time())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.act()
        finally:
            self.running -= 1

    def collectors(self) -> tuple[Collector, ...]:
        return self._collectors

    def drop(self, collector: str) -> None:
        self.dropped.append(collector)

    async def aclose(self) -> None:
        self.closed = True

    @staticmethod
    def translate(error: Exception) -> ProbeError | None:
        return None


class Stage:
    """State and schedule with these probes, running inside `async with`."""

    def __init__(self, *probes: StageProbe, secrets: tuple[Secret, ...] = ()) -> None:
        self.loop = asyncio.get_running_loop()
        self.probes = probes
        self.abandoned: list[asyncio.Task[object]] = []
        self.state = State(self.loop.time(), EPOCH)
        self.tools = Tools(
            wall=lambda: EPOCH + self.loop.time(), rng=Random(7), redactor=Redactor(secrets), abandoned=self._abandon
        )
        self.schedule = Schedule(self.state, self.tools)
        for probe in probes:
            self.state.add(watched(probe), self.loop.time())

    def _abandon(self, probe: str, task: "asyncio.Task[object]") -> None:
        self.abandoned.append(task)
        self.state.abandoned(probe)

    async def __aenter__(self) -> Self:
        for probe in self.probes:
            self.schedule.add(probe)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.schedule.aclose()

    def status(self, number: int = 0) -> ProbeStatus:
        return self.state.snapshot().probes[number]

    def tally(self, number: int = 0) -> ProbeTally:
        return self.state.snapshot().tallies[number]

    async def checks(self, count: int, number: int = 0) -> None:
        """Until so many checks have ended."""
        await self.until(lambda: sum(self.tally(number).runs.values()) >= count)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Looks a hundred times a second, on the clock that jumps."""
        while not condition():  # noqa: ASYNC110  # costs no time here, and any condition will do
            await asyncio.sleep(0.01)


def watched(probe: StageProbe) -> Watched:
    settings = probe.settings
    return Watched(
        name=probe.name,
        type=settings.type,
        up=settings.up,
        labels=(("probe", probe.name),),
        interval_seconds=settings.interval,
        timeout_seconds=settings.timeout_seconds,
        failure_threshold=settings.failure_threshold,
        success_threshold=settings.success_threshold,
        depends_on=settings.depends_on,
        max_series=settings.max_series,
    )


def stage_settings(**keys: object) -> StageSettings:
    return StageSettings.model_validate({"type": "stage", **keys})


__all__ = ["CHECK", "Outcome", "Stage", "StageProbe", "good", "stage_settings"]
