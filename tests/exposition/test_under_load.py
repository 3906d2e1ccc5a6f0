"""The page under load: ten thousand series, hostile labels and numbers, two formats, a real Prometheus, and coming and going."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import Listen
from exporter.exposition import Exposition
from exporter.model import Distribution, Family, Kind, Metric, Row
from exporter.web.metrics_routes import OPENMETRICS_1_0_0, TEXT_0_0_4
from exporter.web.server import start
from tests.conftest import Count
from tests.exposition.load import (
    COUNTS,
    DEPTH,
    GAUGES,
    LABEL_VALUES,
    PROBES,
    TRADES,
    WRITTEN,
    Loaded,
    Page,
    bits,
    expected,
    families,
    held_bytes,
    loaded,
    of_targets,
    read,
)
from tests.prometheus import Prometheus
from tests.servers import eventually, found

SERIES = 10_000
KEPT_BYTES = 4096
"""More after eighteen rounds of coming and going than after twelve; none is seen."""

FORMATS = pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])


def all_expected(round_: int = 0) -> Page:
    """What the targets' series are."""
    page: Page = {}
    for number in range(PROBES):
        page |= expected(families(number, round_), {"probe": f"p{number}", "env": "prod"})
    return page


@FORMATS
def test_ten_thousand_series_are_read_as_what_they_are(count: Count, *, openmetrics: bool) -> None:
    """Whatever stands in a label, whatever number it is, and again once all numbers but those of every third probe are others."""
    load = loaded()
    wanted = all_expected()
    page = of_targets(read(load.page(openmetrics=openmetrics), openmetrics=openmetrics))
    count("series read as they are", sum(page.get(series) == value for series, value in wanted.items()), len(wanted))
    assert len(wanted) == SERIES
    assert page == wanted
    for number in range(PROBES):
        if number % 3:
            load.take(f"p{number}", families(number, 1))
            wanted |= expected(families(number, 1), {"probe": f"p{number}", "env": "prod"})
    assert of_targets(read(load.page(openmetrics=openmetrics), openmetrics=openmetrics)) == wanted


def test_both_formats_say_the_same() -> None:
    """The exporter's own series included: a scraper may change its mind at any time, and must not see a gap."""
    load = loaded()
    assert read(load.page(), openmetrics=False) == read(load.page(openmetrics=True), openmetrics=True)


# --- a real Prometheus --------------------------------------------------------------------------------------------------


CONFIGURATION = "{global: {scrape_interval: 1s, evaluation_interval: 1s}, rule_files: [], scrape_configs: [{job_name: load}]}"


@asynccontextmanager
async def scraping(folder: Path, page: bytes, content_type: str) -> AsyncIterator[Prometheus]:
    """A Prometheus as configured in that folder, whose one target serves this page, whatever it asks for."""

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=page, headers={"Content-Type": content_type})

    application = web.Application()
    application.router.add_get("/metrics", serve)
    server = await start(Listen("127.0.0.1", 0), application)
    try:
        with found():
            prometheus = Prometheus(folder, f"127.0.0.1:{server.port}", 1.0)
        try:
            await asyncio.to_thread(prometheus.start)
            yield prometheus
        finally:
            await asyncio.to_thread(prometheus.close)
    finally:
        await server.aclose()


async def test_a_real_prometheus_takes_all_of_it(tmp_path: Path) -> None:
    """In both formats every series with every label and the very number; `up` is 1, and it counts as many samples as we do."""
    load = loaded()
    # an empty label is no label to Prometheus
    wanted = {(name, tuple(pair for pair in labels if pair[1])): value for (name, labels), value in all_expected().items()}
    pages = ((load.page(), TEXT_0_0_4), (load.page(openmetrics=True), OPENMETRICS_1_0_0))
    (tmp_path / "prometheus.yml").write_text(CONFIGURATION)
    for seen in await asyncio.gather(*(taken(tmp_path, *page) for page in pages)):
        assert seen == wanted


async def taken(folder: Path, page: bytes, content_type: str) -> Page:
    """The targets' series as a Prometheus has them that has scraped this page."""
    samples = sum(not line.startswith(b"#") for line in page.rstrip(b"\n").split(b"\n"))
    async with scraping(folder, page, content_type) as prometheus:

        def asked(expression: str) -> list[float]:
            return [sample.value for sample in prometheus.query(expression)]

        await eventually(lambda: asyncio.to_thread(asked, "scrape_samples_scraped"), 20)
        assert await asyncio.to_thread(asked, "scrape_samples_scraped") == [samples]
        assert await asyncio.to_thread(asked, "scrape_samples_post_metric_relabeling") == [samples]
        assert await asyncio.to_thread(asked, "up") == [1]
        stored = await asyncio.to_thread(prometheus.query, '{__name__=~"load_.+", __name__!="load_up"}')
    return {(one.labels["__name__"], _labels(one.labels)): bits(one.value) for one in stored}


def _labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Without what Prometheus adds."""
    return tuple(sorted((name, value) for name, value in labels.items() if name not in ("__name__", "job", "instance")))


# --- any families -------------------------------------------------------------------------------------------------------

TEXT = st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
)  # half a surrogate pair is no character, and is written as `?`
GAUGE = st.floats() | st.integers(-(2**70), 2**70)
COUNT = st.floats(0, allow_nan=False) | st.integers(0, 2**70)
BOUNDS = st.lists(st.floats(0, 1e300, allow_nan=False), max_size=4, unique=True).map(sorted)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    bounds = draw(BOUNDS)
    counts = sorted(draw(st.lists(st.integers(0, 2**70), min_size=len(bounds) + 1, max_size=len(bounds) + 1)))
    return Distribution(tuple(bounds), tuple(counts[:-1]), draw(st.floats(0, allow_nan=False)), counts[-1])


KINDS: dict[str, tuple[Kind, st.SearchStrategy[float | Distribution]]] = {
    "load_gauge": (Kind.GAUGE, GAUGE),
    "load_passed_total": (Kind.COUNTER, COUNT),
    "load_seen": (Kind.COUNTER, COUNT),
    "load_histogram": (Kind.HISTOGRAM, distributions()),
}


@st.composite
def two_readings(draw: st.DrawFn) -> list[tuple[Family, ...]]:
    """Some of these metrics, each with up to two labels, read twice: a few rows each time, or none."""
    metrics = [Metric(name, kind, draw(TEXT), ("a", "b")[: draw(st.integers(0, 2))]) for name, (kind, _) in KINDS.items()]
    return [tuple(Family(metric, draw(any_rows(metric))) for metric in metrics if draw(st.booleans())) for _ in range(2)]


def any_rows(metric: Metric) -> st.SearchStrategy[tuple[Row, ...]]:
    row = st.tuples(st.tuples(*(TEXT for _ in metric.labels)), KINDS[metric.name][1])
    return st.lists(row, max_size=4, unique_by=lambda row: row[0]).map(tuple)


@settings(max_examples=60, deadline=None)
@given(two_readings(), TEXT)
def test_any_families_are_read_as_what_they_are(readings: list[tuple[Family, ...]], static: str) -> None:
    """Twice, since the second page is made of what was kept of the first."""
    load = Loaded(["a"], {"env": static})
    for reading in readings:
        load.take("a", reading)
        wanted = expected(reading, dict(load.static("a")))
        for openmetrics in (False, True):
            assert of_targets(read(load.page(openmetrics=openmetrics), openmetrics=openmetrics)) == wanted


# --- coming and going ---------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
FEW = st.sampled_from(LABEL_VALUES[:8])


def rows(metric: Metric, values: st.SearchStrategy[float]) -> st.SearchStrategy[Family]:
    """Up to three rows of a metric, from few labels, so that they come again."""
    row = st.tuples(st.tuples(*(FEW for _ in metric.labels)), values)
    return st.lists(row, max_size=3, unique_by=lambda row: row[0]).map(lambda found: Family(metric, tuple(found)))


SOME_FAMILIES = st.tuples(rows(DEPTH, st.sampled_from(GAUGES)), rows(TRADES, st.sampled_from(COUNTS)), rows(WRITTEN, st.just(1)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([Loaded.add, Loaded.remove, Loaded.fail]), st.sampled_from(NAMES)),
        st.tuples(
            st.just(Loaded.take), st.sampled_from(NAMES), SOME_FAMILIES.flatmap(st.permutations).map(lambda all_: tuple(all_[:2]))
        ),
        st.tuples(st.just(Loaded.relabel), st.dictionaries(st.sampled_from(["env", "zone"]), FEW)),
        st.tuples(st.just(Loaded.passes), st.sampled_from([0.5, 5.0, 30.0])),
    ),
    max_size=15,
)


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_a_page_is_what_it_would_be_without_the_ones_before(steps: list[tuple[Any, ...]]) -> None:
    """Whatever is kept from page to page: probes that come, go and come back, series that go stale, other labels, time alone."""
    load = Loaded(NAMES)
    for step, *arguments in steps:
        step(load, *arguments)
        for openmetrics in (False, True):
            for probes in ((), ("a",)):
                snapshot = load.state.snapshot()
                page = load.exposition.render(snapshot, load.now, openmetrics=openmetrics, probes=probes)
                afresh = Exposition(load.labels, tuple).render(snapshot, load.now, openmetrics=openmetrics, probes=probes)
                assert page == afresh


def test_what_has_gone_leaves_nothing_behind() -> None:
    """Databases, queues and probes come and go for months in a process that nobody restarts."""
    load = Loaded(["stays"])
    tracemalloc.start()
    try:
        held = [_come_and_go(load, range(first, first + 6)) for first in (0, 6, 12)]
    finally:
        tracemalloc.stop()
    print(f"held after 6, 12 and 18 rounds of coming and going: {held} bytes")
    assert held[-1] - held[-2] < KEPT_BYTES


def _come_and_go(load: Loaded, rounds: range) -> int:
    """In each ten probes of names that never were, two readings of each and pages between; bytes held when they have gone."""
    for round_ in rounds:
        names = [f"p{round_}-{number}" for number in range(10)]
        for moment in range(2):
            for name in (*names, "stays"):
                load.take(name, passing(2 * round_ + moment))
            load.page(openmetrics=bool(moment))
        for name in names:
            load.remove(name)
        load.page()
    return held_bytes()


def passing(number: int) -> tuple[Family, ...]:
    """A hundred series, of which no other number has one."""
    return (Family(DEPTH, tuple(((f"queue-{number}-{place}",), place) for place in range(100))),)
