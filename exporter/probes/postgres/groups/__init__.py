"""The built-in collectors, one row each: their SQL by version and their metrics, as data."""

from dataclasses import dataclass

from exporter.model import Metric


@dataclass(frozen=True, slots=True)
class Group:
    """A built-in collector."""

    metrics: tuple[Metric, ...]


GROUPS: dict[str, Group] = {name: Group(()) for name in ("database", "activity", "locks", "replication", "settings")}
