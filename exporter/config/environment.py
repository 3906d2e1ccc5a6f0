"""The configuration without any file: the variables that an application has anyway. Knows no driver.

Makes the tree that a file would have held, with the variable's name for a place, so that one check serves both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.config.document import Entry, MappingNode, Node, ScalarNode, SequenceNode
from exporter.config.expand import Sources, Unexpandable
from exporter.config.findings import Findings, Place
from exporter.probes.pooled import PoolSettings

SOURCE = "environment"

FEWEST_CONNECTIONS = 2
MOST_CONNECTIONS = 5
"""What the application's own pool variables, which are meant for it and not for us, can ask of us."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A variable, and the probe it makes: its name, its type and the key that takes the value."""

    variable: str
    probe: str
    type: str
    key: str


_ROWS = (
    _Row("DATABASE_URL", "db", "postgres", "url"),
    _Row("REDIS_URL", "redis", "redis", "url"),
    _Row("RABBITMQ_URL", "rabbitmq", "rabbitmq", "url"),
    _Row("CELERY_BROKER_URL", "celery", "celery", "broker_url"),
)
_BROKERS = ("RABBITMQ_URL", "REDIS_URL")  # where Celery is looked for when nothing names its broker, first choice first


@dataclass(frozen=True, slots=True)
class Found:
    """The tree of the probes that the variables name, and the names of those in it that none names: they are inferred."""

    root: MappingNode
    inferred: frozenset[str]


def tree(sources: Sources, findings: Findings) -> Found:
    """What the variables make."""
    values = {row.variable: read(row.variable, sources, findings) for row in _ROWS}
    probes: dict[str, Node] = {}
    for row in _ROWS:
        value = values[row.variable]
        if value:
            probes[row.probe] = _mapping(row.variable, {"type": row.type, row.key: value})
    if "db" in probes:
        probes["db"] = _with_pool(probes["db"], sources, findings)
    inferred = {} if "celery" in probes else _inferred_celery(values)
    probes |= inferred
    if not probes and not findings:
        names = ", ".join(row.variable for row in _ROWS)
        findings.add(Place(SOURCE), "", f"nothing to probe; set {names}, or write a config.yaml with `probes:` and pass it with -c")
    return Found(_nodes("", {"probes": _nodes("", probes)}), frozenset(inferred))


def notice(root: MappingNode) -> str:
    """For the log at start: whose login the probes of a `tree` come with, by the variables that made them."""
    probes = root.get("probes")
    made = probes.entries.values() if isinstance(probes, MappingNode) else ()
    variables = ", ".join(dict.fromkeys(entry.place.source for entry in made))
    return (
        f"no configuration file: the login is the application's own ({variables}); the README, Rights, has one that may only look"
    )


def read(name: str, sources: Sources, findings: Findings) -> str | None:
    """The variable's value, or that of its `_FILE` twin; None when neither is set, or when it cannot be read, which is told."""
    try:
        return sources.variable(name)
    except Unexpandable as error:
        problem = str(error)
    findings.add(Place(name), "", problem.removeprefix(f"{name}_FILE: "))
    return None


def _inferred_celery(values: Mapping[str, str | None]) -> dict[str, Node]:
    """Celery on the broker that is there; it may not use it at all, so it is not critical."""
    for row in (row for broker in _BROKERS for row in _ROWS if row.variable == broker):
        value = values[row.variable]
        if value:
            celery: dict[str, str | tuple[str, ...]] = {"type": "celery", "broker_url": value}
            return {"celery": _mapping(row.variable, {**celery, "critical": "false", "depends_on": (row.probe,)})}
    return {}


def _with_pool(probe: Node, sources: Sources, findings: Findings) -> Node:
    """The probe with the application's pool size, held between 2 and 5 connections in all."""
    size = _number("DB_POOL_SIZE", sources, findings)
    overflow = _number("DB_MAX_OVERFLOW", sources, findings)
    if (size is None and overflow is None) or not isinstance(probe, MappingNode):
        return probe
    kept, more = clamped(PoolSettings().size if size is None else size, overflow or 0)
    pool = _mapping("DB_POOL_SIZE", {"size": str(kept), "max_overflow": str(more)})
    return MappingNode(probe.place, {**probe.entries, "pool": Entry(pool.place, pool)})


def clamped(size: int, overflow: int) -> tuple[int, int]:
    """Pool size and overflow within our bounds. SQLAlchemy's `0` and `-1` mean that nothing bounds the pool, or its overflow."""
    kept = min(max(size, FEWEST_CONNECTIONS), MOST_CONNECTIONS) if size > 0 else MOST_CONNECTIONS
    more = MOST_CONNECTIONS if overflow < 0 else min(size + overflow, MOST_CONNECTIONS) - kept
    return kept, min(max(more, 0), MOST_CONNECTIONS - kept)


def _number(name: str, sources: Sources, findings: Findings) -> int | None:
    text = read(name, sources, findings)
    if not text:
        return None
    if re.fullmatch(r"-?[0-9]{1,9}", text.strip()):
        return int(text)
    findings.add(Place(name), "", "not a whole number")
    return None


def _mapping(variable: str, values: Mapping[str, str | tuple[str, ...]]) -> MappingNode:
    place = Place(variable)
    nodes: dict[str, Node] = {
        key: SequenceNode(place, tuple(ScalarNode(place, item, plain=False) for item in value))
        if isinstance(value, tuple)
        else ScalarNode(place, value, plain=False)
        for key, value in values.items()
    }
    return _nodes(variable, nodes)


def _nodes(variable: str, nodes: Mapping[str, Node]) -> MappingNode:
    return MappingNode(Place(variable), {key: Entry(node.place, node) for key, node in nodes.items()})
