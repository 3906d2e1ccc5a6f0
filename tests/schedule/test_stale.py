"""How long what was read stays."""

import pytest

from exporter.model import Family, Reading
from exporter.probes.base import Collector
from tests.schedule.stage import NUMBER, Stage, StageProbe, stage_settings
from tests.schedule.timetravel import travel

LOCKS = Family(NUMBER, (((), 1),))


async def locks() -> Reading:
    return Reading((LOCKS,))


@pytest.mark.parametrize(("written", "own", "stays"), [(None, None, 15.0), ("60s", None, 60.0), ("60s", 7.0, 7.0)])
def test_series_stay_as_long_as_their_collector_says_or_else_its_probe(
    written: str | None, own: float | None, stays: float
) -> None:
    """Three of the collector's intervals where nobody says anything."""

    async def main() -> float:
        settings = stage_settings(interval="10s", **({"stale_after": written} if written else {}))
        probe = StageProbe("db", settings, collectors=(Collector("locks", 5.0, 2.0, locks, own),))
        async with Stage(probe) as stage:
            await stage.until(lambda: stage.status().collectors[0].last_success is not None)
            (until,) = (block.until for block in stage.tally().blocks if block.collector == "locks")
            return until - (stage.status().collectors[0].last_success or 0)

    assert travel(main()) == pytest.approx(stays)
