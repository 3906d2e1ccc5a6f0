"""Reads the text that INFO answers with, and says which families it makes. Pure; knows no connection and no clock."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from exporter.model import Family, Kind, Metric, Row
from exporter.probes.redis.fields import FIELDS, MASTER_FIELDS, Field

SECTIONS = (("INFO",), ("INFO", "commandstats"))
"""The commands whose texts, joined, are read here: the default sections, and the one they leave out (any version)."""

INSTANCE = Metric(
    "redis_instance_info",
    Kind.GAUGE,
    "What the server says of itself, from INFO: 1.",
    ("role", "redis_version", "redis_mode", "os", "maxmemory_policy"),
)
START_TIME = Metric(
    "redis_start_time_seconds",
    Kind.GAUGE,
    "Unix time in seconds at which the server started, to the second: INFO's clock less uptime_in_seconds.",
)
DB_KEYS = Metric(
    "redis_db_keys", Kind.GAUGE, "Keys of a database, expired ones not yet removed included, from INFO keyspace.", ("db",)
)
DB_EXPIRING = Metric("redis_db_keys_expiring", Kind.GAUGE, "Keys with a time to live, from INFO keyspace.", ("db",))
DB_TTL = Metric(
    "redis_db_avg_ttl_seconds",
    Kind.GAUGE,
    "Average time to live of keys that have one, as sampled by the server, from INFO keyspace; absent before it has sampled any.",
    ("db",),
)
COMMANDS = Metric("redis_commands_total", Kind.COUNTER, "Calls of a command, from INFO commandstats.", ("cmd",))
SECONDS = Metric(
    "redis_commands_duration_seconds_total",
    Kind.COUNTER,
    "Seconds spent executing a command, waiting and network not included, from INFO commandstats.",
    ("cmd",),
)
FAILED = Metric(
    "redis_commands_failed_calls_total",
    Kind.COUNTER,
    "Calls of a command that failed while executing, from INFO commandstats since Redis 6.2.",
    ("cmd",),
)
REJECTED = Metric(
    "redis_commands_rejected_calls_total",
    Kind.COUNTER,
    "Calls of a command that were refused before executing, from INFO commandstats since Redis 6.2.",
    ("cmd",),
)
ERRORS = Metric(
    "redis_errors_total", Kind.COUNTER, "Error replies by their code word, from INFO errorstats since Redis 6.2.", ("err",)
)
_REPLICA_LABELS = ("slave_ip", "slave_port", "slave_state")
REPLICA_OFFSET = Metric(
    "redis_connected_slave_offset_bytes",
    Kind.GAUGE,
    "Offset that a replica has acknowledged, from INFO replication.",
    _REPLICA_LABELS,
)
REPLICA_LAG = Metric(
    "redis_connected_slave_lag_seconds",
    Kind.GAUGE,
    "Seconds since a replica last acknowledged, from INFO replication.",
    _REPLICA_LABELS,
)
REPLICA = Metric(
    "redis_slave_info",
    Kind.GAUGE,
    "On a replica: whose it is and whether it refuses writes, from INFO replication: 1.",
    ("master_host", "master_port", "read_only"),
)

METRICS: tuple[Metric, ...] = (
    INSTANCE,
    START_TIME,
    *(field.metric for field in (*FIELDS, *MASTER_FIELDS)),
    DB_KEYS,
    DB_EXPIRING,
    DB_TTL,
    COMMANDS,
    SECONDS,
    FAILED,
    REJECTED,
    ERRORS,
    REPLICA_OFFSET,
    REPLICA_LAG,
    REPLICA,
)

Value = int | float
_STATES = {"ok": 1, "err": 0, "up": 1, "down": 0}
_MICROSECONDS = 1_000_000
_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Info:
    """The fields of INFO by their names, as text, in the server's order."""

    fields: Mapping[str, str]

    @classmethod
    def of(cls, text: str) -> "Info":
        """Of the texts of `SECTIONS`, joined; headings and lines without a colon are passed over."""
        pairs = (line.partition(":") for line in text.splitlines())
        return cls({name: value for name, colon, value in pairs if colon})

    @property
    def version(self) -> str:
        return self.fields.get("redis_version", "")

    @property
    def mode(self) -> str:
        """standalone, cluster or sentinel; Valkey calls the field server_mode."""
        return self.fields.get("redis_mode") or self.fields.get("server_mode", "")

    @property
    def role(self) -> str:
        """master or replica, in the words of HELLO, where INFO still says slave."""
        role = self.fields.get("role", "")
        return "replica" if role == "slave" else role

    def families(self, now: float, db: int) -> tuple[Family, ...]:
        """What the fields mean. `now` is Unix seconds, for servers that do not tell their own clock; `db` is the database that is
        told also while it is empty.

        A field that is missing, not a number, or below zero where that means none, gives no series.
        """
        return (
            *self._plain(),
            *self._instance(),
            Family(START_TIME, self._start_time(now)),
            *self._keyspace(db),
            *self._commands(),
            Family(ERRORS, tuple(((name,), count) for name, count in self._counts("errorstat_", "count"))),
            *self._replicas(),
            *self._master(),
        )

    def _plain(self) -> Iterator[Family]:
        for field in FIELDS:
            value = _value(field, self.fields.get(field.name))
            if value is not None:
                yield Family(field.metric, (((), value),))

    def _instance(self) -> Iterator[Family]:
        if self.version:
            facts = (self.fields.get("role", ""), self.version, self.mode)
            yield Family(INSTANCE, (((*facts, self.fields.get("os", ""), self.fields.get("maxmemory_policy", "")), 1),))

    def _start_time(self, now: float) -> tuple[Row, ...]:
        uptime = _number(self.fields.get("uptime_in_seconds"))
        if uptime is None:
            return ()
        told = _number(self.fields.get("server_time_usec"))  # since Redis 6.2
        clock = now if told is None else told / _MICROSECONDS
        return (((), math.floor(clock) - uptime),)

    def _keyspace(self, db: int) -> Iterator[Family]:
        """A database that is not listed has no key, and the one we are in may be one of them."""
        listed = {name: _pairs(value) for name, value in self.fields.items() if name[:2] == "db" and name[2:].isdigit()}
        if "redis_version" in self.fields:
            listed.setdefault(f"db{db}", {"keys": "0", "expires": "0"})
        yield _family(DB_KEYS, listed, "keys")
        yield _family(DB_EXPIRING, listed, "expires")
        ttls = {name: pairs for name, pairs in listed.items() if pairs.get("avg_ttl") != "0"}
        yield _family(DB_TTL, ttls, "avg_ttl", _MILLISECONDS)

    def _commands(self) -> Iterator[Family]:
        prefix = "cmdstat_"
        listed = {name[len(prefix) :]: _pairs(value) for name, value in self.fields.items() if name.startswith(prefix)}
        yield _family(COMMANDS, listed, "calls")
        yield _family(SECONDS, listed, "usec", _MICROSECONDS)
        yield _family(FAILED, listed, "failed_calls")
        yield _family(REJECTED, listed, "rejected_calls")

    def _counts(self, prefix: str, key: str) -> Iterator[tuple[str, Value]]:
        for name, value in self.fields.items():
            if name.startswith(prefix):
                count = _number(_pairs(value).get(key))
                if count is not None:
                    yield name[len(prefix) :], count

    def _replicas(self) -> Iterator[Family]:
        """`slave0:ip=10.0.0.2,port=6379,state=online,offset=140,lag=1`; two behind one address are told as the first."""
        listed = [_pairs(value) for name, value in self.fields.items() if name.startswith("slave") and name[5:].isdigit()]
        by_labels: dict[tuple[str, ...], Mapping[str, str]] = {}
        for pairs in listed:
            by_labels.setdefault((pairs.get("ip", ""), pairs.get("port", ""), pairs.get("state", "")), pairs)
        for metric, key in ((REPLICA_OFFSET, "offset"), (REPLICA_LAG, "lag")):
            rows = ((labels, _number(pairs.get(key))) for labels, pairs in by_labels.items())
            yield Family(metric, tuple((labels, value) for labels, value in rows if value is not None))

    def _master(self) -> Iterator[Family]:
        if "master_host" not in self.fields:
            return
        labels = (self.fields["master_host"], self.fields.get("master_port", ""))
        for field in MASTER_FIELDS:
            value = _value(field, self.fields.get(field.name))
            if value is not None:
                yield Family(field.metric, ((labels, value),))
        yield Family(REPLICA, (((*labels, self.fields.get("slave_read_only", "")), 1),))


def _family(metric: Metric, listed: Mapping[str, Mapping[str, str]], key: str, unit: int = 1) -> Family:
    rows = ((name, _number(pairs.get(key))) for name, pairs in listed.items())
    return Family(metric, tuple(((name,), value if unit == 1 else value / unit) for name, value in rows if value is not None))


def _pairs(text: str) -> dict[str, str]:
    """`calls=3,usec=12` as a mapping."""
    return {name: value for name, equals, value in (pair.partition("=") for pair in text.split(",")) if equals}


def _value(field: Field, text: str | None) -> Value | None:
    if text in _STATES:
        return _STATES[text]
    value = _number(text)
    if value is None or (value < 0 and not field.is_signed):
        return None
    return value if field.unit == 1 else value / field.unit


def _number(text: str | None) -> Value | None:
    """A whole number exactly, any other as a float; None for what is no number, NaN included."""
    if not text:
        return None
    try:
        value = int(text) if text.lstrip("-").isdigit() else float(text)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
