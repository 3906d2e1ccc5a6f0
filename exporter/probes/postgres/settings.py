"""What can be written under a probe of type postgres. Knows no driver."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from exporter.model import Kind, Metric
from exporter.probes.address import Server, parse_server
from exporter.probes.base import PoolSettings, ProbeSettings, RetryPreset, Settings
from exporter.probes.fields import Count, Duration, Name, SecretText, Text
from exporter.probes.postgres.groups import GROUPS

SCHEMES = ("postgresql", "postgres")
DEFAULT_PORT = 5432

UP = Metric("pg_up", Kind.GAUGE, "Whether the last check reached the server: 1, or 0 when it failed.")

Group = Literal["database", "activity", "locks", "replication", "settings"]


class QueryMetric(Settings):
    """One metric fed by a query's rows."""

    type: Annotated[Literal["gauge", "counter"], Field(description="gauge or counter.")]
    help: Annotated[Text, Field(min_length=1, description="What it counts, its unit, its source.")]
    value: Annotated[Text, Field(description="Column that holds the value.")]
    labels: Annotated[tuple[Text, ...], Field(description="Columns that become labels.")] = ()


class Query(Settings):
    """A SELECT of the user's, run read-only on its own schedule."""

    sql: Annotated[Text, Field(min_length=1, description="One SELECT; runs in a read-only session.")]
    metrics: Annotated[dict[str, QueryMetric], Field(min_length=1, description="Metrics by name.")]
    interval: Annotated[Duration | None, Field(description="Time between runs; default the probe's.")] = None
    timeout: Annotated[Duration | None, Field(description="Deadline of a run; default the probe's.")] = None

    def declared(self) -> tuple[Metric, ...]:
        return tuple(Metric(name, Kind(metric.type), metric.help, metric.labels) for name, metric in self.metrics.items())


class PostgresSettings(ProbeSettings):
    """A PostgreSQL server: a `url`, or its parts, which win over the URL's and are taken literally."""

    up: ClassVar[Metric] = UP
    default_retry: ClassVar[RetryPreset] = "fast"

    type: Literal["postgres"]
    url: Annotated[SecretText | None, Field(description="postgresql://user:password@host:port/database?sslmode=…")] = None
    host: Annotated[Text | None, Field(description="Host name or address.")] = None
    port: Annotated[Count | None, Field(ge=1, le=65535, description="Port; default 5432.")] = None
    username: Annotated[Text | None, Field(description="Login role.")] = None
    password: Annotated[SecretText | None, Field(description="Its password, literally.")] = None
    database: Annotated[Text | None, Field(description="Database; default the user's name.")] = None
    pool: Annotated[PoolSettings, Field(description="Connections to the server.")] = PoolSettings()
    collect: Annotated[tuple[Group, ...], Field(description="Built-in collectors.")] = (
        "database",
        "activity",
        "locks",
        "replication",
        "settings",
    )
    queries: Annotated[dict[Name, Query], Field(description="Queries of yours by name, each a collector.")] = {}

    def declared(self) -> tuple[Metric, ...]:
        groups = tuple(metric for group in self.collect for metric in GROUPS[group].metrics)
        return (self.up, *groups, *(metric for query in self.queries.values() for metric in query.declared()))

    def connections(self) -> int | None:
        return self.pool.limit

    @property
    def server(self) -> Server:
        """Where to connect and as whom, fields beside the URL included.

        Raises:
            ValueError: the URL cannot be read, or neither a url nor a host is given; with a sentence for the user.
        """
        url = parse_server(self.url, SCHEMES) if self.url is not None else None
        if url is None and self.host is None:
            raise ValueError("needs a url or a host")
        base = url or Server("postgresql", "", None)
        return base.overridden(
            host=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            path=self.database,
            default_port=DEFAULT_PORT,
        )
