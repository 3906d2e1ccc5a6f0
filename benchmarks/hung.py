"""Half of all targets swallow every packet: whether the checks of the other half are all done, and when.

    python benchmarks/hung.py [--quick]

1000 Redis probes, 500 of them behind a full listen queue, where a connect gets no answer; each of these waits out its timeout,
again and again, with the circuit switched off. The reference is the 500 healthy ones alone.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, whatever is installed

from benchmarks.common.pace import RUNTIME, AnyProbe, Engine, Lateness, Paced, in_fresh_process, middle, noting, settle
from benchmarks.common.table import Figure, Row, compared, options_of, progress, tell
from exporter.demo.servers import HOST, Redis
from exporter.model import Outcome, Status
from exporter.probes.redis.probe import RedisProbe
from exporter.probes.redis.settings import RedisSettings
from tests.faults import black_hole

NAME = "hung"
DEADLINE = 0.9
"""Of an interval: a hung check is over before the next is due."""
EDGES = 0.99
WELL, HANGING = "well", "hanging"


@dataclass(frozen=True, slots=True)
class Half:
    """What became of the healthy probes' checks; `ended` are those that succeeded, `missed` those that failed or were skipped.

    `timed_out` are checks of the others.
    """

    paced: Paced
    ended: int
    missed: int
    timed_out: int


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All rows; `--quick` has ten probes of each half."""
    half, interval, rounds, seconds = (10, 0.1, 1, 0.4) if options.quick else (500, 1.0, 2, 5.0)
    planned = round(half * seconds / interval)
    what = f"{half} of {2 * half} probes black-holed"
    progress(what)
    with Redis() as store:
        watch = (interval, seconds, store.url)
        seen = [[in_fresh_process(probed, half, hanging, *watch) for hanging in (half, 0)] for _ in range(rounds)]
    beside, alone = ([pair[side] for pair in seen] for side in (0, 1))
    yield _done(what, min(beside, key=lambda one: one.ended), planned)
    late = [Figure(middle([one.paced for one in some]).late_p99 * 1000, "ms") for some in (beside, alone)]
    yield compared(NAME, f"{what}: late p99 of the healthy, against them alone", late[0], late[1])
    ended = Figure(min(one.timed_out for one in beside), "checks")
    told = f"{what}: checks of the hung that ended at their deadline, against the planned"
    yield compared(NAME, told, ended, Figure(planned, "checks"))


def _done(what: str, worst: Half, planned: int) -> Row:
    """The edges of the time watched cut through a few checks; one that is lost for good counts as missed."""
    ratio = worst.ended / planned
    return Row(
        NAME,
        f"{what}: checks of the healthy, against the planned",
        f"{worst.ended} done, {worst.missed} failed or skipped",
        f"{planned} planned",
        ratio,
        f"≥ {EDGES:g} ×, none failed",
        ratio >= EDGES and not worst.missed,
    )


# -- what runs in a process of its own ---------------------------------------------------------------------------------


async def probed(well: int, hanging: int, interval: float, seconds: float, url: str) -> Half:
    """So many healthy probes beside so many that hang; only the former are timed."""
    lateness, others = Lateness(interval), Lateness(interval)
    async with black_hole() as port:
        made = [_probe(f"{WELL}-{number}", url, lateness) for number in range(well)]
        made += [_probe(f"{HANGING}-{number}", f"redis://{HOST}:{port}", others) for number in range(hanging)]
        async with Engine(made) as engine:
            await engine.until(Status.HEALTHY, WELL)
            await engine.until(Status.UNHEALTHY, HANGING)
            await settle(seconds)
            before = _counts(engine)
            paced = await lateness.over(seconds)
            ended, missed, timed_out = (after - then for after, then in zip(_counts(engine), before, strict=True))
    return Half(paced, ended, missed, timed_out)


def _counts(engine: Engine) -> tuple[int, int, int]:
    """Successes and misses of the healthy, failures of the others, so far."""
    ended = missed = timed_out = 0
    for tally in engine.state.snapshot().tallies:
        failed = tally.runs[Outcome.FAILURE]
        if tally.name.startswith(WELL):
            ended += tally.runs[Outcome.SUCCESS]
            missed += failed + sum(tally.skipped.values())
        else:
            timed_out += failed
    return ended, missed, timed_out


def _probe(name: str, url: str, lateness: Lateness) -> AnyProbe:
    interval, timeout = (
        f"{round(seconds * 1000)}ms" for seconds in (lateness.interval_seconds, lateness.interval_seconds * DEADLINE)
    )
    written = {"type": "redis", "url": url, "interval": interval, "timeout": timeout, "circuit": "off", "collect": []}
    return noting(RedisProbe, lateness)(name, RedisSettings.model_validate(written), RUNTIME)


if __name__ == "__main__":
    tell(measure, options_of(__doc__).parse_args())
