"""Probe types for benchmarks: `noop` reads made-up series and touches nothing, `census` counts the exporter's own tasks."""

import asyncio
from itertools import count
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from exporter.errors import ProbeError
from exporter.model import Family, Kind, Metric, Reading
from exporter.probes import ProbeType
from exporter.probes.base import Probe, ProbeSettings
from exporter.probes.fields import Count

NOOP = ProbeType("benchmarks.common.types:NoopSettings", "benchmarks.common.types:NoopProbe")
CENSUS = ProbeType("benchmarks.common.types:CensusSettings", "benchmarks.common.types:CensusProbe")

VALUES = tuple(Metric(f"noop_value_{number}", Kind.GAUGE, "A number that differs at each check.", ("item",)) for number in range(5))
"""Series of a noop probe are spread over these."""
TASKS = Metric("census_tasks", Kind.GAUGE, "Tasks of the exporter's event loop.")


class NoopSettings(ProbeSettings):
    """Nothing: a check that is done at once, and so many series that change with each."""

    up: ClassVar[Metric] = Metric("noop_up", Kind.GAUGE, "Always 1.")

    type: Literal["noop"]
    series: Annotated[Count, Field(ge=0, description="Series that a check reads.")] = 0

    def declared(self) -> tuple[Metric, ...]:
        return (self.up, *VALUES)


class NoopProbe(Probe[NoopSettings]):
    """Mutable: it counts its checks."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # as every probe is made
        self._numbers = count()

    async def check(self) -> Reading:
        return reading(self.settings.series, next(self._numbers))

    @staticmethod
    def translate(error: Exception) -> ProbeError | None:
        return None


def reading(series: int, number: int) -> Reading:
    """So many series, whose values follow from `number` and differ from those of every other one."""
    if not series:
        return Reading()
    rows = [((f"queue.{item}.orders",), number + item / 7) for item in range(series)]
    kinds = len(VALUES)
    return Reading(tuple(Family(metric, tuple(rows[first::kinds])) for first, metric in enumerate(VALUES) if rows[first::kinds]))


class CensusSettings(ProbeSettings):
    """The exporter's own event loop."""

    up: ClassVar[Metric] = Metric("census_up", Kind.GAUGE, "Always 1.")

    type: Literal["census"]

    def declared(self) -> tuple[Metric, ...]:
        return (self.up, TASKS)


class CensusProbe(Probe[CensusSettings]):
    """Runs where the exporter runs, so it sees what no series of its own tells."""

    async def check(self) -> Reading:
        return Reading((Family(TASKS, (((), len(asyncio.all_tasks())),)),))

    @staticmethod
    def translate(error: Exception) -> ProbeError | None:
        return None
