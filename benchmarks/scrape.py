"""/metrics against aiohttp serving the same bytes fixed, rendering against the client library, /health beside heavy scraping.

    python benchmarks/scrape.py [--quick]

Ours and the reference take turns, and medians are compared: the machine is never quiet.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client import exposition as client_text
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as client_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, whatever is installed

from benchmarks.common.backends import Backends
from benchmarks.common.load import PROMETHEUS, Plan, loaded
from benchmarks.common.processes import ExporterProcess, Fixed, body_of, median, series_in
from benchmarks.common.table import Bar, Figure, Row, at_least, compared, options_of, progress, tell, times_cheaper, within
from benchmarks.common.types import NoopSettings, reading
from exporter.exposition import Exposition
from exporter.model import CHECK, Outcome, Run
from exporter.state import State, Watched

NAME = "scrape"
IDENTITY = PROMETHEUS | {"Accept-Encoding": "identity"}
PACKED = PROMETHEUS | {"Accept-Encoding": "gzip"}
PROBES = 100
OWN_SERIES = 49
"""What the exporter tells of a probe beside what the probe reads."""
READY_SECONDS = 30.0
CONNECTIONS = 16
HEALTH_PAUSE_SECONDS = 0.01
SCRAPE_PAUSE_SECONDS = 0.2
HEALTH_LIMIT_MS = 10.0


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All rows; `--quick` leaves the five backends out, which take ten seconds to start."""
    series, rounds, seconds = (500, 1, 0.2) if options.quick else (10_000, 5, 1.0)
    yield from _rendering(series, rounds)
    if not options.quick:
        with Backends() as backends:
            probes = {name: probe | {"interval": "1s"} for name, probe in backends.probes.items()}
            yield from _serving("five live probes, 1 s", probes, 450, (rounds, seconds), at_least(0.6))
    yield from _serving("1 s churn", _noops(series), series, (rounds, seconds), at_least(0.5))
    yield _health(series, seconds * rounds)


# -- requests per second ---------------------------------------------------------------------------------------------


def _noops(series: int) -> dict[str, dict[str, object]]:
    each = series // PROBES - OWN_SERIES
    probes = PROBES if each > 0 else max(1, series // 100)
    each = series // probes - OWN_SERIES
    return {f"noop-{number}": {"type": "noop", "series": each, "interval": "1s"} for number in range(probes)}


def _serving(what: str, probes: dict[str, dict[str, object]], least: int, effort: tuple[int, float], bar: Bar) -> Iterator[Row]:
    """Requests per second of an exporter with these probes, plain and gzip, once it shows at least so many series."""
    progress(f"scraping, {what}")
    rounds, seconds = effort
    with ExporterProcess({"probes": probes}) as ours:
        page = _settled(ours, least)
        for coding, headers, wanted in (("", IDENTITY, bar), (", gzip", PACKED, None)):
            with Fixed(body_of(ours.port, headers=headers)) as floor:
                rates: dict[int, list[float]] = {ours.port: [], floor.port: []}
                for _ in range(rounds):
                    for port, seen in rates.items():
                        (result,) = loaded(Plan(port, headers=headers, connections=CONNECTIONS, seconds=seconds))
                        seen.append(result.rate)
            figures = [Figure(median(seen), "req/s") for seen in rates.values()]
            text = f"{series_in(page)} series, {what}{coding}: /metrics against the same bytes fixed"
            yield compared(NAME, text, figures[0], figures[1], wanted)


def _settled(ours: ExporterProcess, least: int) -> bytes:
    """A page that shows as many series as are wanted; raises TimeoutError where it does not come."""
    until = time.monotonic() + READY_SECONDS
    while series_in(page := body_of(ours.port, headers=IDENTITY)) < least * 0.98:
        if time.monotonic() > until:
            raise TimeoutError(f"{series_in(page)} of {least} series after {READY_SECONDS:g} s")
        time.sleep(0.1)
    return page


def _health(series: int, seconds: float) -> Row:
    """How long /health takes while a scraper takes everything five times a second, as Prometheus does, compressed."""
    progress("/health beside scraping")
    with ExporterProcess({"probes": _noops(series)}) as ours:
        _settled(ours, series)
        asking = Plan(ours.port, "/health", connections=1, seconds=seconds, pause_seconds=HEALTH_PAUSE_SECONDS)
        scraping = Plan(ours.port, headers=PACKED, connections=1, seconds=seconds, pause_seconds=SCRAPE_PAUSE_SECONDS)
        asked, _ = loaded(asking, scraping)
    what = f"/health p99 while {series} series are scraped five times a second"
    return within(NAME, what, Figure(asked.p99_seconds * 1000, "ms"), HEALTH_LIMIT_MS)


# -- rendering -------------------------------------------------------------------------------------------------------


class Rendering:
    """A state of as many probes as make so many series, and its page; mutable."""

    def __init__(self, series: int) -> None:
        self._now = 1000.0
        self._numbers = count()
        self._state = State(self._now, 1.7e9)
        self._exposition = Exposition({}, tuple)
        probes = max(1, min(PROBES, series // 100))
        self._each = series // probes - OWN_SERIES
        self.names = [f"noop-{number}" for number in range(probes)]
        for name in self.names:
            self._state.add(Watched(name, "noop", NoopSettings.up, (("probe", name),), 1.0, 1.0), self._now)
        self.change(probes)

    def change(self, probes: int) -> None:
        """So many probes, in turn, have read new values."""
        self._now += 0.01
        for _ in range(probes):
            number = next(self._numbers)
            read = reading(self._each, number)
            run = Run(CHECK, Outcome.SUCCESS, self._now, 7e8 + self._now, 0.001 + number * 1e-9, reading=read)
            self._state.of(self.names[number % len(self.names)]).take(run, 1e6)

    def page(self, *, openmetrics: bool) -> bytes:
        return self._exposition.render(self._state.snapshot(), self._now, openmetrics=openmetrics)


def _rendering(series: int, rounds: int) -> Iterator[Row]:
    """Processor time of a page against generate_latest over the same families: not even made, only written."""
    progress("rendering")
    ours = Rendering(series)
    page = ours.page(openmetrics=True)
    families: list[Metric] = list(text_string_to_metric_families(page.decode()))  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    for openmetrics, form, client in (
        (True, "OpenMetrics", client_openmetrics.generate_latest),
        (False, "text", client_text.generate_latest),
    ):
        for share, probes, wanted in (("1 % of probes", max(1, len(ours.names) // 100), 200), ("every probe", len(ours.names), 15)):
            mine, theirs = [], []
            for _ in range(rounds):
                mine.append(_median_cpu(lambda: ours.page(openmetrics=openmetrics), 20, lambda: ours.change(probes)))  # noqa: B023
                theirs.append(_median_cpu(lambda: client(registry), 3))  # noqa: B023
            what = f"{series_in(page)} series rendered, {form}, {share} changed: CPU against prometheus_client"
            figures = [Figure(median(times) * 1000, "ms") for times in (mine, theirs)]
            yield times_cheaper(NAME, what, figures[0], figures[1], at_least(wanted))


class _Collected(Collector):
    """A collector that has its families ready."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _median_cpu(work: Callable[[], object], times: int, before: Callable[[], object] = nullcontext) -> float:
    """Seconds of processor time that `work` takes; `before` is not counted."""
    took = []
    for _ in range(times):
        before()
        began = time.process_time_ns()
        work()
        took.append((time.process_time_ns() - began) / 1e9)
    return median(took)


if __name__ == "__main__":
    tell(measure, options_of(__doc__).parse_args())
