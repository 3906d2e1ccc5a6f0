"""The user's queries: which columns they must return, and what their rows mean. Pure; knows no driver and no schedule."""

from collections.abc import Sequence

from exporter.errors import MESSAGE_LENGTH, ProbeError
from exporter.model import Family, Kind, Metric, Reason, Row
from exporter.probes.postgres.settings import Query, QueryMetric
from exporter.probes.postgres.values import Cell, label, number
from exporter.secret import one_line

SPARE_ROWS = 10_000
"""Rows beyond the probe's max_series that a query may still return: so many can be dropped and counted, more are a mistake."""


def require_columns(name: str, query: Query, columns: Sequence[str]) -> None:
    """Checks, before the query runs, that it returns every column its metrics name.

    Raises:
        ProbeError: reason config, naming the query, what is missing and what it does return.
    """
    needed = dict.fromkeys(column for metric in query.metrics.values() for column in (metric.value, *metric.labels))
    missing = [column for column in needed if column not in columns]
    if missing:
        raise _problem(name, f"no column {', '.join(missing)}; it returns {', '.join(columns)}")


def families(name: str, query: Query, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> tuple[Family, ...]:
    """The families of a query's metrics. NULL and NaN are no value: that series is absent; a NULL label is empty.

    Raises:
        ProbeError: reason config; a value is no number, a counter is negative, or two rows have the same labels. Rows are
            named by their number, from 1, never by what they hold.
    """
    declared = zip(query.declared(), query.metrics.values(), strict=True)
    return tuple(Family(metric, _rows(name, metric, written, columns, rows)) for metric, written in declared)


def require_fewer(name: str, rows: Sequence[Sequence[Cell]], most: int) -> None:
    """Raises ProbeError, reason config, when there are more rows than `most`."""
    if len(rows) > most:
        raise _problem(name, f"more than {most} rows; aggregate them")


def _rows(
    name: str, metric: Metric, written: QueryMetric, columns: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> tuple[Row, ...]:
    at = columns.index(written.value)
    labelled = [columns.index(column) for column in written.labels]
    first: dict[tuple[str, ...], int] = {}
    found: list[Row] = []
    for place, row in enumerate(rows, 1):
        value = _value(name, written.value, row[at])
        if value is None:
            continue
        if value < 0 and metric.kind is Kind.COUNTER:
            raise _problem(name, f"row {place}: the counter {metric.name} is negative; make it a gauge")
        labels = tuple(label(row[index]) for index in labelled)
        if first.setdefault(labels, place) != place:
            raise _problem(name, f"rows {first[labels]} and {place} have the same labels for {metric.name}; group by them")
        found.append((labels, value))
    return tuple(found)


def _value(name: str, column: str, cell: Cell) -> int | float | None:
    try:
        return number(cell)
    except TypeError as error:
        raise _problem(name, f"column {column} is no number; cast it, an interval by extract(epoch FROM {column})") from error


def _problem(name: str, what: str) -> ProbeError:
    return ProbeError(Reason.CONFIG, one_line(f"query {name}: {what}", MESSAGE_LENGTH))
