"""Ten thousand series of a hundred probes, with label values and numbers that hurt parsers, and what readers make of them.

A number is compared by its bits (`float.hex`): NaN is itself, and -0 is not 0.
"""

import gc
import tracemalloc
from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric as Parsed
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition import Exposition
from exporter.model import CHECK, CircuitStatus, Distribution, Family, Kind, Metric, Outcome, Reading, Reason, Row, Run, Value
from exporter.state import Live, State, Watched

Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and sorted labels."""
Page = dict[Series, str]
"""Of each series its number, by its bits."""

PROBES = 100
STALE_SECONDS = 20.0

UP = Metric("load_up", Kind.GAUGE, "Whether it is up.")
DEPTH = Metric("load_queue_depth", Kind.GAUGE, 'Of "queues" \\ with\nlines, in 日本.', ("queue",))
TRADES = Metric("load_trades_total", Kind.COUNTER, "Trades.", ("symbol", "side"))
WRITTEN = Metric("load_written_bytes", Kind.COUNTER, "A peer's counter, without _total.", ("queue",))
WAIT = Metric("load_wait_seconds", Kind.HISTOGRAM, "Waits.", ("queue",))
METRICS = {metric.name: metric for metric in (UP, DEPTH, TRADES, WRITTEN, WAIT)}

LABEL_VALUES = (
    # what the formats escape, and what looks as if they did
    'with "quotes"',
    "with\nlines\n",
    'with \\ and \\n and \\\\n and \\"',
    "trailing \\",
    *'\\"\n',
    # what the formats are made of
    *("", " ", "\t", "a,b", "a}b", '{a="b"}', "# EOF", "# TYPE load_up gauge", "a 1\nb 2", "%s %d %%", "'", "a\xa0b"),
    # what somebody takes for the end of a line, or of a text
    *("\r", "\r\n", "\x00\x01\x1f\x7f", "\x85", "\u2028\u2029", "\ufeff", "\ufffd"),
    # what people write: composed, from right to left, beyond 16 bits, joined, and long
    *(
        "naïve",
        "e\u0301",
        "\u0301",
        "日本語",
        "עברית",
        "\u202eto the left\u202c",
        "العربية ١٢٣",
        "🦊",
        "👩‍👩‍👧‍👦",
        "\U0010ffff",
        "ǅﷺ",
    ),
    "x" * 4000,
)
GAUGES = (
    *(0, 1, -1, True, 2**53 + 1, 2**63, 2**64, -(2**64), 10**39),
    *(0.0, -0.0, 0.1, 1e21, 123456789.123456789, 5e-324, 1.7976931348623157e308, -1.7976931348623157e308),
    *(float("nan"), float("inf"), float("-inf")),
)
COUNTS = (0, 1, 0.5, 2**53 + 1, 2**64, 10**39, 5e-324, 1.7976931348623157e308, float("inf"))


def families(probe: int, round_: int = 0) -> tuple[Family, ...]:
    """A hundred series of one probe; another round has other numbers."""
    turn = probe + round_
    names = [LABEL_VALUES[(probe + place) % len(LABEL_VALUES)] for place in range(len(LABEL_VALUES))]
    depths = tuple(((f"{number}{name}",), GAUGES[(turn + number) % len(GAUGES)]) for number, name in enumerate(names))
    trades = tuple(((f"s{number}", names[number]), COUNTS[(turn + number) % len(COUNTS)]) for number in range(30))
    written = tuple(((names[number],), COUNTS[(turn * number) % len(COUNTS)]) for number in range(7))
    waits = tuple(((name,), Distribution((0.1, 1.0), (turn, turn + 1), 0.5 * turn, turn + 2)) for name in names[:5])
    return (Family(DEPTH, depths), Family(TRADES, trades), Family(WRITTEN, written), Family(WAIT, waits))


class Loaded:
    """A state with probes, its page, and a clock of its own; mutable."""

    def __init__(self, names: Iterable[str] = (), labels: Mapping[str, str] | None = None) -> None:
        self.now = 1.0
        self.state = State(self.now, 1e9)
        self.labels = dict(labels or {})
        self.exposition = Exposition(self.labels, tuple)
        for name in names:
            self.add(name)

    @property
    def names(self) -> set[str]:
        return {probe.name for probe in self.state.snapshot().probes}

    def static(self, name: str) -> tuple[tuple[str, str], ...]:
        return (("probe", name), *self.labels.items())

    def add(self, name: str) -> None:
        """A probe of that name, from now on; where there is one, another in its place."""
        self.state.add(Watched(name, "postgres", UP, self.static(name), 10.0, 5.0), self.now)
        self.state.of(name).attach(Live(pool=lambda: None, counters=lambda: (0, ())), ["queries"])

    def remove(self, name: str) -> None:
        """The probe is gone, if it was there."""
        if name in self.names:
            self.state.remove(name)

    def take(self, name: str, read: tuple[Family, ...]) -> None:
        """A check of the probe has succeeded, and its collector has read this."""
        if name not in self.names:
            self.add(name)
        self._ran(name, CHECK, Outcome.SUCCESS, Reading())
        self._ran(name, "queries", Outcome.SUCCESS, Reading(read))
        self.state.of(name).plan(self.now, self.now + 10.0, CircuitStatus(), None)

    def fail(self, name: str) -> None:
        """A check of the probe has failed, if it is there."""
        if name in self.names:
            self._ran(name, CHECK, Outcome.FAILURE, None)

    def relabel(self, labels: Mapping[str, str]) -> None:
        """These stand on every series from now on."""
        self.labels = dict(labels)
        self.exposition.relabel(labels)
        for name in self.names:
            self.state.of(name).relabel(self.static(name))

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def _ran(self, name: str, collector: str, outcome: Outcome, reading: Reading | None) -> None:
        reason = None if outcome is Outcome.SUCCESS else Reason.REFUSED
        run = Run(collector, outcome, self.now, 1e9 + self.now, 0.003, reason=reason, reading=reading)
        self.state.of(name).take(run, STALE_SECONDS)

    def page(self, *, openmetrics: bool = False) -> bytes:
        return self.exposition.render(self.state.snapshot(), self.now, openmetrics=openmetrics)


def loaded() -> Loaded:
    """All of it."""
    load = Loaded((f"p{number}" for number in range(PROBES)), {"env": "prod"})
    for number in range(PROBES):
        load.take(f"p{number}", families(number))
    return load


# --- what is expected, and what readers see -----------------------------------------------------------------------------


def bits(value: float) -> str:
    return float(value).hex()


def expected(read: Iterable[Family], static: Mapping[str, str]) -> Page:
    """The series that these families are, with these labels on each."""
    found: Page = {}
    for family in read:
        for row in family.rows:
            for name, labels, value in _series(family.metric, row):
                found[name, tuple(sorted({**static, **labels}.items()))] = bits(value)
    return found


def _series(metric: Metric, row: Row) -> list[tuple[str, dict[str, str], float]]:
    labels = dict(zip(metric.labels, row[0], strict=True))
    value: Value = row[1]
    if not isinstance(value, Distribution):
        return [(metric.name, labels, value)]
    buckets = [*zip(map(repr, value.bounds), value.counts, strict=True), ("+Inf", value.count)]
    out: list[tuple[str, dict[str, str], float]] = [(f"{metric.name}_bucket", {**labels, "le": le}, count) for le, count in buckets]
    return [*out, (f"{metric.name}_sum", labels, value.sum), (f"{metric.name}_count", labels, value.count)]


def read(page: bytes, *, openmetrics: bool) -> Page:
    """What the client's parser makes of a page. Raises AssertionError where a series stands there twice."""
    parsed: Iterable[Parsed] = (parse_openmetrics if openmetrics else parse_text)(page.decode())
    as_written = {line.partition(b"{")[0].partition(b" ")[0].decode() for line in page.split(b"\n")}
    samples = [sample for family in parsed for sample in family.samples]
    found: Page = {}
    for one in samples:
        # of text 0.0.4 it gives every counter a `_total`
        name = one.name if one.name in as_written else one.name.removesuffix("_total")
        found[name, tuple(sorted(one.labels.items()))] = bits(one.value)
    assert len(found) == len(samples), "a series stands there twice"
    return found


def of_targets(page: Page) -> Page:
    """Without what the exporter tells of itself."""
    return {series: value for series, value in page.items() if series[0].startswith("load_") and series[0] != UP.name}


def held_bytes() -> int:
    """What the exposition has allocated since tracing began and still holds, by whomever."""
    gc.collect()
    traces = tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.Filter(inclusive=True, filename_pattern="*/exporter/exposition/*")]
    )
    return sum(trace.size for trace in traces.traces)
