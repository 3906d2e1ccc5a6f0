"""Families to lines of the Prometheus text formats. Pure.

Text 0.0.4 and OpenMetrics 1.0.0 share every sample line; only the headers and the closing `# EOF` differ. So no created
timestamps and no exemplars are written. Sources: prometheus.io "Exposition formats"; OpenMetrics 1.0.0 specification.
"""

from collections.abc import Iterable, Mapping
from math import inf, isnan

from exporter.model import Distribution, Family, Kind, Metric, Value

Labels = tuple[tuple[str, str], ...]
Prefixes = dict[tuple[str, ...], tuple[bytes, ...]]
"""For each row's label values, the beginnings of its lines: `name{labels} ` (several for a histogram)."""

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_TEXT_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def number(value: float) -> str:
    """A sample's value: the shortest text that reads back as the same number."""
    if isinstance(value, int):
        return str(int(value))
    if isnan(value):
        return "NaN"
    if value in (inf, -inf):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def header(metric: Metric, *, openmetrics: bool) -> bytes:
    """The HELP and TYPE lines. A counter without `_total` keeps its name: counter in text, unknown in OpenMetrics."""
    name, kind = metric.name, str(metric.kind)
    if openmetrics:
        if metric.kind is Kind.COUNTER:
            name, kind = (name.removesuffix("_total"), kind) if name.endswith("_total") else (name, "unknown")
        return f"# HELP {name} {metric.help.translate(_ESCAPES)}\n# TYPE {name} {kind}\n".encode()
    return f"# HELP {name} {metric.help.translate(_TEXT_HELP_ESCAPES)}\n# TYPE {name} {kind}\n".encode()


def lines(family: Family, static: Labels, prefixes: Prefixes) -> tuple[bytes, Prefixes]:
    """The sample lines of a family, and the prefixes they began with, to pass in again next time."""
    used: Prefixes = {}
    out: list[bytes] = []
    metric = family.metric
    for values, value in family.rows:
        starts = prefixes.get(values)
        if starts is None:
            starts = _starts(metric, static, values, value)
        used[values] = starts
        if isinstance(value, Distribution):
            out.extend(_distribution(starts, value))
        else:
            out.append(starts[0] + number(value).encode() + b"\n")
    return b"".join(out), used


def _starts(metric: Metric, static: Labels, values: tuple[str, ...], value: Value) -> tuple[bytes, ...]:
    labels = (*static, *zip(metric.labels, values, strict=True))
    if not isinstance(value, Distribution):
        return (_start(metric.name, labels),)
    buckets = (_start(f"{metric.name}_bucket", (*labels, ("le", number(float(bound))))) for bound in (*value.bounds, inf))
    return (*buckets, _start(f"{metric.name}_sum", labels), _start(f"{metric.name}_count", labels))


def _start(name: str, labels: Iterable[tuple[str, str]]) -> bytes:
    text = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels)
    return (f"{name}{{{text}}} " if text else f"{name} ").encode(errors="replace")


def _distribution(starts: tuple[bytes, ...], value: Distribution) -> Iterable[bytes]:
    numbers = (*map(number, value.counts), number(value.count), number(value.sum), number(value.count))
    return (start + text.encode() + b"\n" for start, text in zip(starts, numbers, strict=True))


def static_labels(labels: Mapping[str, str]) -> Labels:
    return tuple(labels.items())
