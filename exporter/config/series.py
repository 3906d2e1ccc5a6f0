"""Rules for metric names and labels: what Prometheus, promtool and our own series leave to the user.

Knows no probe but by what it declares, and no YAML but by sections.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.config.findings import Findings, Place
from exporter.config.rules import WrittenProbe
from exporter.config.section import Section
from exporter.config.validate import literals_in
from exporter.model import Metric
from exporter.probes import TYPES
from exporter.probes.base import ProbeSettings
from exporter.probes.fields import OWN_PREFIXES, RESERVED_LABELS

SUFFIXES = ("_total", "_bucket", "_sum", "_count")
"""What a sample's name may add to its family's; two families must differ without them (OpenMetrics 1.0, MetricFamily)."""

_PROBE_LABELS = frozenset(
    {"type", "critical", "status", "outcome", "reason", "cause", "collector", "feature", "state", "from", "to"}
)  # of sidecar_probe_*, sidecar_collector_*, sidecar_capability, sidecar_pool_* and sidecar_circuit_*
_PROCESS_LABELS = frozenset(
    {"handler", "method", "code", "version", "revision", "python", "implementation", "major", "minor", "patchlevel", "generation"}
)  # of sidecar_http_*, sidecar_build_info, and of prometheus_client's python_info and python_gc_*

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_CAMEL = re.compile(r"[a-z][A-Z]")

# promtool check metrics: client_golang, testutil/promlint/validations
_TYPES_IN_NAMES = ("counter", "gauge", "summary", "histogram", "gauge_histogram")
_ABBREVIATIONS = frozenset({"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"})
_PREFIXES = (
    *("pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo"),
    *("kibi", "mega", "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi"),
)
_BASE_UNITS = ("amperes", "bytes", "celsius", "grams", "joules", "kelvin", "meters", "metres", "seconds", "volts")
_UNITS = {unit: unit for unit in _BASE_UNITS} | {
    "minutes": "seconds",
    "hours": "seconds",
    "days": "seconds",
    "weeks": "seconds",
    "kelvins": "kelvin",
    "fahrenheit": "celsius",
    "rankine": "celsius",
    "inches": "meters",
    "yards": "meters",
    "miles": "meters",
    "bits": "bytes",
    "calories": "joules",
    "pounds": "grams",
    "ounces": "grams",
}


@dataclass(frozen=True, slots=True)
class WrittenMetric:
    """A metric that a user named, fed by `collector` of `probe`. `kind` is None where it is missing or unknown."""

    name: str
    kind: str | None
    section: Section
    probe: str
    collector: str

    @property
    def place(self) -> Place:
        return self.section.place

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label for label, _, _ in self.section.texts("labels"))


def written_metrics(probe: WrittenProbe) -> Iterator[WrittenMetric]:
    """What the probe's queries feed, in the order of the file."""
    for query, section in probe.section.sections("queries"):
        for name, metric in section.sections("metrics"):
            kind = metric.text("type")
            yield WrittenMetric(name, kind if kind in ("gauge", "counter") else None, metric, probe.name, query)


def check_metrics(probes: Sequence[WrittenProbe], findings: Findings) -> None:
    """User-named metrics: their names and labels by themselves, beside the built-in ones, and beside each other."""
    built_in = {**built_in_metrics(), **foreign_metrics(probes)}
    stems = {stem(name): name for name in built_in}
    seen: dict[str, WrittenMetric] = {}
    for metric in (metric for probe in probes for metric in written_metrics(probe)):
        problems = [*name_problems(metric.name, metric.kind), *_built_in_problems(metric.name, built_in, stems)]
        first = seen.setdefault(stem(metric.name), metric)
        if not problems and first is not metric:
            problems = list(_beside(metric, first))
        if problems:
            findings.add(metric.place, metric.section.path, "; ".join(problems))
        _check_own_labels(metric, findings)


def name_problems(name: str, kind: str | None) -> Iterator[str]:
    """What Prometheus refuses and promtool complains of in a metric's name; `kind` is gauge, counter or None."""
    yield from reserved_name(name)
    if not _METRIC.fullmatch(name):
        return
    if ":" in name:
        yield "a colon is for recording rules"
    if _CAMEL.search(name):
        yield "write it in snake_case"
    if kind == "counter" and not name.endswith("_total"):
        yield "a counter's name ends in _total"
    yield from _suffix_problems(name, kind)
    yield from _word_problems(name.lower())


def reserved_name(name: str) -> Iterator[str]:
    """What keeps a name from being used at all, whoever gives it."""
    if not _METRIC.fullmatch(name):
        yield "not a metric name; it holds letters, digits and `_`, and begins with no digit"
    if name.startswith(OWN_PREFIXES):
        yield f"{name.partition('_')[0]}_ is the prefix of the exporter's own metrics"
    if name == "up" or name.startswith("scrape_"):
        yield "Prometheus writes this name itself, for each scrape"


def _suffix_problems(name: str, kind: str | None) -> Iterator[str]:
    if kind == "gauge" and name.endswith("_total"):
        yield "_total is for counters"
    if kind == "counter" and name.endswith("_timestamp_seconds"):
        yield "_timestamp_seconds is for gauges"
    for suffix in ("_bucket", "_sum", "_count"):
        if name.endswith(suffix):
            yield f"{suffix} is for histograms"


def _word_problems(name: str) -> Iterator[str]:
    words = name.split("_")
    for kind in _TYPES_IN_NAMES:
        if f"_{kind}_" in f"{name}_":
            yield f"leave the type `{kind}` out of the name"
    for unit, base in dict.fromkeys(filter(None, map(_unit, words))):
        if unit != base:
            yield f"use the base unit {base} instead of {unit}"
    for word in dict.fromkeys(words[1:]):
        if word in _ABBREVIATIONS:
            yield f"write the unit `{word}` out"


def _unit(word: str) -> tuple[str, str] | None:
    """The unit that a word is, as written, and its base unit."""
    if word in _UNITS:
        return word, _UNITS[word]
    for prefix in _PREFIXES:
        if word.startswith(prefix) and word[len(prefix) :] in _UNITS:
            return word, _UNITS[word[len(prefix) :]]
    return None


def _built_in_problems(name: str, built_in: Mapping[str, str], stems: Mapping[str, str]) -> Iterator[str]:
    if name in built_in:
        yield f"is a built-in metric of type {built_in[name]}"
    elif stem(name) in stems:
        near = stems[stem(name)]
        yield f"is the same as the built-in {near} once _total, _bucket, _sum and _count are taken off"


def _beside(metric: WrittenMetric, first: WrittenMetric) -> Iterator[str]:
    """What keeps a metric from standing beside an earlier one of the same stem."""
    if metric.name != first.name:
        yield f"is the same as {first.name} at {first.place} once _total, _bucket, _sum and _count are taken off"
    elif metric.probe == first.probe:
        yield f"is fed by collector `{first.collector}` already, at {first.place}; a metric of a probe has one source"
    elif None not in (metric.kind, first.kind) and metric.kind != first.kind:
        yield f"is a {first.kind} at {first.place}; a metric has one type"
    elif set(metric.labels) != set(first.labels):
        yield f"has other labels at {first.place}: {', '.join(first.labels) or 'none'}; a metric has the same labels everywhere"


def _check_own_labels(metric: WrittenMetric, findings: Findings) -> None:
    seen: set[str] = set()
    for label, node, path in metric.section.texts("labels"):
        problem = "stands twice" if label in seen else label_problem(label)
        seen.add(label)
        if problem:
            findings.add(node.place, path, problem)


def label_problem(name: str) -> str | None:
    """What is wrong with a label's name, or None."""
    if not _LABEL.fullmatch(name):
        return "not a label name; it holds letters, digits and `_`, and begins with no digit"
    if name.startswith("__"):
        return "names that begin with `__` are reserved by Prometheus"
    if name in RESERVED_LABELS:
        return f"`{name}` is reserved: {RESERVED_LABELS[name]}"
    return "write it in snake_case" if _CAMEL.search(name) else None


def check_static_labels(top: Section | None, probes: Sequence[WrittenProbe], findings: Findings) -> None:
    """Static labels: sound names, none that a series has by itself. `top` is the section of the labels of every series."""
    if top is not None:
        _check_static(top, _PROBE_LABELS | _PROCESS_LABELS, findings)
    for probe in probes:
        own = probe.section.section("labels")
        if own is not None:
            _check_static(own, _PROBE_LABELS, findings)
        taken = _labels_of(probe)
        for section in filter(None, (top, own)):
            for name in section.own.keys() & taken.keys():
                entry = section.own[name]
                findings.add(entry.place, section.path_of(name), f"is a label of {taken[name]} by itself; choose another name")


def _check_static(labels: Section, taken: Iterable[str], findings: Findings) -> None:
    for name, entry in labels.own.items():
        problem = label_problem(name)
        if problem is None and name in taken:
            problem = "is a label of the exporter's own series (sidecar_*, python_*); choose another name"
        if problem:
            findings.add(entry.place, labels.path_of(name), problem)


def _labels_of(probe: WrittenProbe) -> dict[str, str]:
    """Every label that the probe's series have by themselves, with a metric that has it."""
    declared = probe.settings.declared() if probe.settings else ()
    found = {label: metric.name for metric in declared for label in metric.labels}
    return found | {label: metric.name for metric in written_metrics(probe) for label in metric.labels}


def stem(name: str) -> str:
    """A metric's name without what a sample may add to it."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def built_in_metrics() -> Mapping[str, str]:
    """The names of all metrics that any probe type can emit with every collector on, each with its type."""
    return {metric.name: name for name, row in TYPES.items() for metric in _declared(row.load_settings())}


def foreign_metrics(probes: Iterable[WrittenProbe]) -> Mapping[str, str]:
    """The names of the metrics that configured probes of other packages' types declare, each with its type."""
    return {
        metric.name: probe.settings.type
        for probe in probes
        if probe.package and probe.settings is not None
        for metric in probe.settings.declared()
    }


def _declared(model: type[ProbeSettings]) -> tuple[Metric, ...]:
    collect = model.model_fields.get("collect")
    fields: dict[str, Any] = {"collect": tuple(dict.fromkeys(literals_in(collect.annotation)))} if collect else {}
    return model.model_construct(**fields).declared()
