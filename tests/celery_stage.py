"""What tests of the Celery probe need: a probe, its listener as the schedule keeps it, and its numbers in short."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from exporter.drivers.dns import Resolver
from exporter.errors import AssertionFailed, ProbeError
from exporter.model import CHECK, Distribution, Family, Reading
from exporter.probes.base import Runtime
from exporter.probes.celery.probe import CeleryProbe
from exporter.probes.celery.settings import CelerySettings
from tests.servers import eventually, nothing_left, open_fds

RESTART_SECONDS = 0.2  # the schedule waits a second

Counts = dict[tuple[str, ...], int | float | Distribution]


def probe_of(broker_url: str, instance: str, **keys: object) -> CeleryProbe:
    """A probe with these keys; its instance is the test's own, as it names queues on the broker."""
    settings = CelerySettings.model_validate({"type": "celery", "broker_url": broker_url, "timeout": "3s", **keys})
    return CeleryProbe("celery", settings, Runtime(instance, Resolver()))


class Watched:
    """A probe whose listener is kept alive; mutable. `woken` counts what it has asked for, `ended` why it ended."""

    def __init__(self, probe: CeleryProbe) -> None:
        self.probe = probe
        self.woken = 0
        self.ended: list[ProbeError] = []

    async def keep_listening(self) -> None:
        while True:
            try:
                await self.probe.listen(self._wake)
            except ProbeError as error:
                self.ended.append(error)
            await asyncio.sleep(RESTART_SECONDS)

    def _wake(self) -> None:
        self.woken += 1

    # --- its numbers ----------------------------------------------------------------------------------------------------

    @property
    def path_up(self) -> int | float | Distribution | None:
        """celery_event_path_up, None while it is absent."""
        return _rows(self.probe.counters()[1], "celery_event_path_up").get(())

    def tasks(self, *, name: str = "", queue: str = "celery") -> dict[str, int | float | Distribution]:
        """celery_tasks_total by state, of one task and one queue."""
        rows = _rows(self.probe.counters()[1], "celery_tasks_total")
        return {state: value for (task, state, where), value in rows.items() if (task, where) == (name, queue)}

    def all_tasks(self) -> Counts:
        return _rows(self.probe.counters()[1], "celery_tasks_total")

    def durations(self, name: str, state: str) -> Distribution:
        value = _rows(self.probe.counters()[1], "celery_task_duration_seconds")[name, state]
        assert isinstance(value, Distribution)
        return value

    def rejected(self) -> dict[str, int | float | Distribution]:
        return {reason: value for (reason,), value in _rows(self.probe.counters()[1], "celery_events_rejected_total").items()}

    async def workers(self) -> dict[str, int | float | Distribution]:
        """celery_worker_up by host name, from a check of now."""
        return workers_in(await look(self.probe))


@asynccontextmanager
async def listening(probe: CeleryProbe) -> AsyncIterator[Watched]:
    """The probe with its listener for the length of the block, ended as the schedule ends it."""
    watched = Watched(probe)
    task = asyncio.create_task(watched.keep_listening())
    try:
        yield watched
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await probe.aclose()


async def look(probe: CeleryProbe) -> Reading:
    """The reading of a check, also of one that failed on its workers."""
    async with asyncio.timeout(probe.settings.timeout_seconds):
        try:
            return await probe.check()
        except AssertionFailed as failed:
            if failed.reading is None:
                raise
            return failed.reading


async def reconnects_leave_nothing(probe: CeleryProbe, times: int) -> None:
    """So many times three connections, a listener's and a collector's; what is open is counted before and after, and printed."""

    def standing() -> dict[str, int]:
        return {"fds": open_fds().total(), "tasks": len(asyncio.all_tasks()), "threads": threading.active_count()}

    before = standing()
    async with nothing_left():
        for _ in range(times):
            await _connected_once(probe)
        await probe.aclose()
    print(f"{3 * times} connections: {before} before, {standing()} after")


async def _connected_once(probe: CeleryProbe) -> None:
    listening = asyncio.create_task(probe.listen(lambda: None))
    await eventually(lambda: probe.pool().used == 2 or listening.done(), 5)
    (collector,) = probe.collectors()
    await collector.run()
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening
    probe.drop(CHECK)


def workers_in(reading: Reading) -> dict[str, int | float | Distribution]:
    return {hostname: up for (hostname,), up in _rows(reading.families, "celery_worker_up").items()}


def _rows(families: tuple[Family, ...], name: str) -> Counts:
    return {labels: value for family in families if family.metric.name == name for labels, value in family.rows}
