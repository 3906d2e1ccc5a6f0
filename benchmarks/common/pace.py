"""Checks on a grid, by our engine or by the barest loop there could be: what each costs, and how late it comes.

Every measurement is one process of its own, so that neither side pays for the other's heap.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from random import Random
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from zlib import crc32

from benchmarks.common.processes import median, percentile
from exporter.drivers.dns import Resolver
from exporter.model import Reading, Status
from exporter.probes.base import Probe, Runtime
from exporter.schedule import Schedule, Tools
from exporter.secret import Redactor
from exporter.state import State, Watched

P = ParamSpec("P")
T = TypeVar("T")
AnyProbe = Probe[Any]
Work = Callable[[], Awaitable[object]]

RUNTIME = Runtime("bench", Resolver())
EARLY_SECONDS = 0.01
"""A check may come so much before its moment, where moments are rounded; it is not late then, and not an interval late."""
SETTLE_SECONDS = 2.0
READY_SECONDS = 90.0
PROCESS_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Paced:
    """What one measurement saw. `checks` ended in its time; seconds each."""

    checks: int
    cpu_seconds: float
    late_p50: float
    late_p99: float

    @property
    def per_check(self) -> float:
        """Processor seconds."""
        return self.cpu_seconds / self.checks


def middle(seen: list[Paced]) -> Paced:
    """The medians of several measurements."""
    checks = int(median(one.checks for one in seen))
    cpu = median(one.per_check for one in seen) * checks
    return Paced(checks, cpu, median(one.late_p50 for one in seen), median(one.late_p99 for one in seen))


class Lateness:
    """How long after its moment of the grid each check began; mutable. Counts nothing until it is told to.

    `ended` is for those who begin checks: there shall be no more.
    """

    def __init__(self, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds
        self.seconds: list[float] = []
        self.counting = False
        self.ended = False
        self._time = asyncio.get_running_loop().time

    def note(self, name: str) -> None:
        """A check of that name begins now."""
        if self.counting:
            late = (self._time() - self.phase(name)) % self.interval_seconds
            self.seconds.append(0.0 if late > self.interval_seconds - EARLY_SECONDS else late)

    def phase(self, name: str) -> float:
        """Where its moments lie in each interval: spread as our schedule spreads them, before anything is rounded."""
        return crc32(name.encode()) / 2**32 * self.interval_seconds

    async def over(self, seconds: float) -> Paced:
        """Counts for so long, and on a machine that has no time for us until there is something to count."""
        self.counting, began = True, time.process_time()
        await asyncio.sleep(seconds)
        while not self.seconds:  # noqa: ASYNC110  # seen once in many runs, with thirty processes on two cores
            await asyncio.sleep(0.1)
        used, self.counting = time.process_time() - began, False
        return Paced(len(self.seconds), used, percentile(self.seconds, 0.5), percentile(self.seconds, 0.99))


async def settle(seconds: float) -> None:
    """Lets pass what beginning costs, before so long a measurement."""
    gc.collect()
    gc.freeze()  # as the exporter does after its start
    await asyncio.sleep(min(SETTLE_SECONDS, seconds))


def noting(kind: type[AnyProbe], lateness: Lateness) -> type[AnyProbe]:
    """The same type of probe, which tells when its checks begin."""

    class Noting(kind):  # type: ignore[misc, valid-type]  # a class made at run time
        async def check(self) -> Reading:
            lateness.note(self.name)
            return await super().check()  # type: ignore[no-any-return]

    return Noting


class Engine:
    """State and schedule as the exporter joins them, without its page; mutable. Probes these inside `async with`."""

    def __init__(self, probes: Iterable[AnyProbe]) -> None:
        self._probes = tuple(probes)
        self._now = asyncio.get_running_loop().time
        self.state = State(self._now(), time.time())
        tools = Tools(time.time, Random(7), Redactor(()), lambda name, _: self.state.abandoned(name))
        self._schedule = Schedule(self.state, tools)

    async def __aenter__(self) -> Self:
        for probe in self._probes:
            self.state.add(watched(probe), self._now())
            self._schedule.add(probe)
        self._beat = asyncio.create_task(self._schedule.beat())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._beat.cancel()
        await self._schedule.aclose()

    async def until(self, status: Status, names: str = "") -> None:
        """Until every probe whose name begins so has that status; raises TimeoutError."""
        async with asyncio.timeout(READY_SECONDS):
            while not all(self._have(status, names)):  # noqa: ASYNC110  # the state tells nobody
                await asyncio.sleep(0.2)

    def _have(self, status: Status, names: str) -> Iterator[bool]:
        return (probe.status is status for probe in self.state.snapshot().probes if probe.name.startswith(names))


def watched(probe: AnyProbe) -> Watched:
    """What the state must know of it."""
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
        max_series=settings.max_series,
        connections=settings.connections(),
    )


async def engine_paced(probes: Iterable[AnyProbe], lateness: Lateness, seconds: float) -> Paced:
    """Our engine runs these probes for so long, once all are healthy."""
    async with Engine(probes) as engine:
        await engine.until(Status.HEALTHY)
        await settle(seconds)
        return await lateness.over(seconds)


async def bare_paced(works: Mapping[str, Work], lateness: Lateness, seconds: float) -> Paced:
    """A task for each name sleeps to its moment of the same grid and awaits its work: nothing else happens."""
    tasks = [asyncio.create_task(_bare(name, work, lateness)) for name, work in works.items()]
    await settle(seconds)
    seen = await lateness.over(seconds)
    lateness.ended = True  # not by cancelling them: a driver may swallow that, and its task go on for ever
    await asyncio.wait(tasks)
    return seen


async def _bare(name: str, work: Work, lateness: Lateness) -> None:
    loop = asyncio.get_running_loop()
    phase, interval = lateness.phase(name), lateness.interval_seconds
    while not lateness.ended:
        await asyncio.sleep(interval - (loop.time() - phase) % interval)
        lateness.note(name)
        await work()


def in_fresh_process(function: Callable[P, Coroutine[Any, Any, T]], *arguments: P.args, **options: P.kwargs) -> T:
    """What a coroutine function of a module returns, run in a process that has done nothing before.

    Raises:
        TimeoutError: it hangs.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run, function, arguments, options).result(PROCESS_SECONDS)


def _run(function: Callable[..., Coroutine[Any, Any, T]], arguments: tuple[Any, ...], options: dict[str, Any]) -> T:
    logging.disable()  # a thousand changes of status are no news here
    return asyncio.run(function(*arguments, **options))
