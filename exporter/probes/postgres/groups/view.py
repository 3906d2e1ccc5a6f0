"""The shape of a built-in collector: SQL and metrics as data, by server version. Knows no driver and no connection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exporter.model import Capability, Family, Kind, Metric
from exporter.probes.postgres.server import Server
from exporter.probes.postgres.values import Cell, label, number


@dataclass(frozen=True, slots=True)
class Column:
    """The expression that gives a metric's values. `since` is the first server_version_num that has it: 140000 is 14."""

    metric: Metric
    sql: str
    since: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """One SELECT: the labels' expressions, then a column for each metric, from `source`, which is all from FROM on."""

    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    source: str = ""

    def statement(self, version: int) -> str:
        """The SQL for a server of that server_version_num."""
        expressions = (*self.labels, *(column.sql for column in self._of(version)))
        return f"SELECT {', '.join(expressions)} {self.source}".rstrip()

    def families(self, version: int, rows: Sequence[Sequence[Cell]]) -> tuple[Family, ...]:
        """What the statement's rows mean. NULL and NaN are no value: that series is absent."""
        first = len(self.labels)
        labels = [tuple(map(label, row[:first])) for row in rows]
        return tuple(
            Family(
                column.metric,
                tuple((key, value) for key, row in zip(labels, rows, strict=True) if (value := number(row[index])) is not None),
            )
            for index, column in enumerate(self._of(version), first)
        )

    def _of(self, version: int) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if version >= column.since)


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that needs a right. `cure` names the role as `{role}`; `complete` judges what was read last."""

    name: str
    cure: str
    complete: Callable[[Server, Sequence[Family]], bool]

    def judge(self, server: Server, families: Sequence[Family]) -> Capability:
        available = self.complete(server, families)
        return Capability(self.name, available, "" if available else self.cure.format(role=server.quoted_role))


@dataclass(frozen=True, slots=True)
class Group:
    """A built-in collector: its views are read one after the other, each in a transaction of its own."""

    views: tuple[View, ...]
    feature: Feature | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(column.metric for view in self.views for column in view.columns)


def gauge(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, help_text, labels)


def counter(name: str, help_text: str, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, help_text, labels)
