"""Families to lines of the Prometheus text formats. Pure.

Text 0.0.4 and OpenMetrics 1.0.0 share every sample line; only the headers and the closing `# EOF` differ. So no created
timestamps and no exemplars are written. Sources: prometheus.io "Exposition formats"; OpenMetrics 1.0.0 specification.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from math import inf, isfinite, isnan

from exporter.model import Distribution, Family, Kind, Metric, Value

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """The lines of a family with a `%s` for each number: made once for label sets that stay, and filled at each run.

    `shape` is what they follow from: the label values of each row, of a histogram with its bounds.
    """

    static: Labels
    shape: tuple[object, ...]
    text: str


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


def lines(family: Family, static: Labels, before: Pattern | None) -> tuple[bytes, Pattern]:
    """The sample lines of a family, and their pattern, to pass in again next time."""
    shape, numbers = _apart(family)
    if before is None or before.shape != shape or before.static != static:
        before = Pattern(static, shape, _pattern(family, static))
    return (before.text % _written(numbers)).encode(), before


def _apart(family: Family) -> tuple[tuple[object, ...], tuple[float, ...]]:
    """The shape of a family's rows, and their numbers in the order of the lines."""
    if family.metric.kind is not Kind.HISTOGRAM:
        shape, numbers = zip(*family.rows, strict=True) if family.rows else ((), ())
        return shape, numbers
    rows = [(values, value) for values, value in family.rows if isinstance(value, Distribution)]
    of_rows = ((*value.counts, value.count, value.sum, value.count) for _, value in rows)
    return tuple((values, value.bounds) for values, value in rows), tuple(chain.from_iterable(of_rows))


def _written(numbers: tuple[float, ...]) -> tuple[object, ...]:
    """What `%s` writes as `number` does: the numbers themselves, unless there is one among them that is not finite."""
    try:
        if isfinite(sum(numbers)):
            return numbers
    except OverflowError:
        """An integer beyond all floats; or there is something infinite besides: one by one, then."""
    return tuple(map(number, numbers))


def _pattern(family: Family, static: Labels) -> str:
    starts = (start for values, value in family.rows for start in _starts(family.metric, static, values, value))
    text = "".join(f"{start.replace('%', '%%')}%s\n" for start in starts)
    return text.encode(errors="replace").decode()  # half a surrogate pair cannot be encoded, whoever sent it


def _starts(metric: Metric, static: Labels, values: tuple[str, ...], value: Value) -> tuple[str, ...]:
    """The beginnings of one row's lines: `name{labels} `, several for a histogram."""
    labels = (*static, *zip(metric.labels, values, strict=True))
    if not isinstance(value, Distribution):
        return (_start(metric.name, labels),)
    buckets = (_start(f"{metric.name}_bucket", (*labels, ("le", number(float(bound))))) for bound in (*value.bounds, inf))
    return (*buckets, _start(f"{metric.name}_sum", labels), _start(f"{metric.name}_count", labels))


def _start(name: str, labels: Iterable[tuple[str, str]]) -> str:
    text = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels)
    return f"{name}{{{text}}} " if text else f"{name} "


def static_labels(labels: Mapping[str, str]) -> Labels:
    return tuple(labels.items())
