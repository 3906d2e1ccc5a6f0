"""What a check costs and how late it comes: our engine against the barest loop, no-op probes and real drivers.

    python benchmarks/schedule.py [--quick]

The reference is a task per probe that sleeps to the same moments and awaits the same thing, without deadline, verdict, circuit,
history or series. Each figure is the median of runs in turns, each in a process of its own.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import redis.asyncio

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, whatever is installed

from benchmarks.common.pace import (
    RUNTIME,
    AnyProbe,
    Lateness,
    Paced,
    Work,
    bare_paced,
    engine_paced,
    in_fresh_process,
    middle,
    noting,
)
from benchmarks.common.table import Bar, Figure, Row, at_most, compared, options_of, progress, tell
from benchmarks.common.types import NoopProbe, NoopSettings
from exporter.demo.servers import Postgres, Redis
from exporter.probes import TYPES
from exporter.probes.installed import probe_of, settings_of

NAME = "schedule"
INTERVAL_SECONDS = 1.0
LATE_TIMES, LATE_MS = 3.0, 20.0
AT_ONCE = 20
"""Connections that the bare loop opens side by side; a thousand at once would be refused."""
SPARE_CONNECTIONS = 50
"""Of the database, for others."""


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All rows; `--quick` has a few probes and one round."""
    sizes, rounds, seconds = ((10,), 1, 0.3) if options.quick else ((10, 100, 1000, 10_000), 2, 2.5)
    costs: dict[int, Paced] = {}
    for size in sizes:
        what = f"{size} no-op probes at 1 s"
        progress(what)
        seen = [(in_fresh_process(noops, size, seconds), in_fresh_process(nothing, size, seconds)) for _ in range(rounds)]
        costs[size], bare = (middle([*side]) for side in zip(*seen, strict=True))
        yield _cost(f"{what}: CPU per check against a bare loop", costs[size], bare)
        yield _lateness(what, costs[size], bare, bounded=False)
    if not options.quick:
        yield _cost("10000 no-op probes: CPU per check against 100", costs[10_000], costs[100], at_most(1.0))
    yield from _drivers(10 if options.quick else 1000, rounds, seconds)


def _drivers(size: int, rounds: int, seconds: float) -> Iterator[Row]:
    """Half of them PostgreSQL, half Redis, all on connections that are kept."""
    what = f"{size} PostgreSQL and Redis probes at 1 s"
    progress(what)
    with Postgres(settings={"max_connections": str(size // 2 + SPARE_CONNECTIONS)}) as postgres, Redis() as store:
        urls = (postgres.url, store.url)
        seen = [
            (in_fresh_process(probes, size, seconds, urls), in_fresh_process(pings, size, seconds, urls)) for _ in range(rounds)
        ]
    ours, bare = (middle([*side]) for side in zip(*seen, strict=True))
    yield _cost(f"{what}: CPU per check against the bare drivers", ours, bare, at_most(1.4))
    yield _lateness(what, ours, bare, bounded=True)


def _cost(what: str, ours: Paced, reference: Paced, bar: Bar | None = None) -> Row:
    figures = [Figure(one.per_check * 1e6, "µs") for one in (ours, reference)]
    return compared(NAME, what, figures[0], figures[1], bar)


def _lateness(what: str, ours: Paced, bare: Paced, *, bounded: bool) -> Row:
    """The 99th percentile; `bounded` by a multiple of the reference's, or by what nobody would notice."""
    figures = [Figure(one.late_p99 * 1000, "ms") for one in (ours, bare)]
    p50 = [Figure(one.late_p50 * 1000, "ms") for one in (ours, bare)]
    ratio = ours.late_p99 / bare.late_p99
    held = (ratio <= LATE_TIMES or figures[0].value <= LATE_MS) if bounded else None
    wanted = f"≤ {LATE_TIMES:g} × or {LATE_MS:g} ms" if bounded else ""
    return Row(NAME, f"{what}: late p99 (p50 {p50[0]}, {p50[1]})", str(figures[0]), str(figures[1]), ratio, wanted, held)


# -- what runs in a process of its own ---------------------------------------------------------------------------------


async def noops(size: int, seconds: float) -> Paced:
    """So many probes that do nothing, on our engine."""
    lateness = Lateness(INTERVAL_SECONDS)
    settings = NoopSettings.model_validate({"type": "noop", "interval": f"{INTERVAL_SECONDS:g}s"})
    kind = noting(NoopProbe, lateness)
    return await engine_paced([kind(name, settings, RUNTIME) for name in _names(size)], lateness, seconds)


async def nothing(size: int, seconds: float) -> Paced:
    """So many bare tasks that do nothing."""

    async def noop() -> None:
        pass

    return await bare_paced(dict.fromkeys(_names(size), noop), Lateness(INTERVAL_SECONDS), seconds)


async def probes(size: int, seconds: float, urls: tuple[str, str]) -> Paced:
    """So many real probes on our engine, each on its own connection."""
    lateness = Lateness(INTERVAL_SECONDS)
    made = [_probe(name, kind, url, lateness) for name, (kind, url) in _shared_out(size, urls)]
    return await engine_paced(made, lateness, seconds)


async def pings(size: int, seconds: float, urls: tuple[str, str]) -> Paced:
    """What the drivers' own manuals would have you write, on as many connections."""
    opening = asyncio.Semaphore(AT_ONCE)
    shares = _shared_out(size, urls)
    async with AsyncExitStack() as opened:
        works = await asyncio.gather(*(_opened(kind, url, opening, opened) for _, (kind, url) in shares))
        named = dict(zip((name for name, _ in shares), works, strict=True))
        return await bare_paced(named, Lateness(INTERVAL_SECONDS), seconds)


async def _opened(kind: str, url: str, opening: asyncio.Semaphore, opened: AsyncExitStack) -> Work:
    async with opening:
        if kind == "postgres":
            connection = await asyncpg.connect(url, ssl=False)
            opened.push_async_callback(connection.close)
            return lambda: connection.execute("SELECT 1")
        client = redis.asyncio.Redis.from_url(url, single_connection_client=True)
        await client.ping()
        opened.push_async_callback(client.aclose)
        return client.ping


def _names(size: int) -> list[str]:
    return [f"probe-{number}" for number in range(size)]


def _shared_out(size: int, urls: tuple[str, str]) -> list[tuple[str, tuple[str, str]]]:
    """Every other name has the database, the others the store: pairs of type and URL."""
    kinds = (("postgres", urls[0]), ("redis", urls[1]))
    return [(name, kinds[number % 2]) for number, name in enumerate(_names(size))]


def _probe(name: str, kind: str, url: str, lateness: Lateness) -> AnyProbe:
    written = {"type": kind, "url": url, "interval": f"{INTERVAL_SECONDS:g}s", "timeout": "30s", "circuit": "off"}  # to get there
    settings = settings_of(kind, TYPES[kind]).model_validate({**written, "collect": []})
    return noting(probe_of(kind), lateness)(name, settings, RUNTIME)


if __name__ == "__main__":
    tell(measure, options_of(__doc__).parse_args())
