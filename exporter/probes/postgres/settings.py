"""What can be written under a probe of type postgres. Knows no driver."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from exporter.model import Kind, Metric
from exporter.probes.address import SSLMODES, URL_OR_HOST, Server, parse_server
from exporter.probes.base import OwnSchedule, RetryPreset, Settings
from exporter.probes.fields import Count, MetricName, Name, SecretText, Text
from exporter.probes.pooled import PooledSettings, by_name
from exporter.probes.postgres.groups import GROUPS
from exporter.secret import HIDDEN

SCHEMES = ("postgresql", "postgres")
READ = frozenset({"host", "port", "sslmode", "ssl", "sslrootcert", "sslcert", "sslkey"})
"""Parameters of the URL that are honoured."""
OURS = frozenset({"application_name", "fallback_application_name", "connect_timeout", "client_encoding", "tcp_user_timeout"})
"""Those that speak of what is our own affair, as do all that begin with `keepalives`: nobody has to be told."""
DEFAULT_PORT = 5432

UP = Metric("pg_up", Kind.GAUGE, "Whether the last check reached the server: 1, or 0 when it failed.")

Group = Literal["database", "activity", "locks", "replication", "settings"]


class QueryMetric(Settings):
    """A metric fed by the rows of a query: one series for each row."""

    type: Annotated[
        Literal["gauge", "counter"], Field(description="What the number is; a counter only rises, and its name ends in _total.")
    ]
    help: Annotated[Text, Field(min_length=1, description="What it counts, its unit and its source, for HELP.")]
    value: Annotated[Text, Field(description="Column with the value; NULL is no series.")]
    labels: Annotated[tuple[Text, ...], Field(description="Columns that become labels, by their names.")] = ()


class Query(OwnSchedule):
    """A SELECT of yours, run in a read-only transaction of its own."""

    sql: Annotated[Text, Field(min_length=1, description="One SELECT.")]
    metrics: Annotated[dict[MetricName, QueryMetric], Field(min_length=1, description="The metrics that its rows feed, by name.")]

    def declared(self) -> tuple[Metric, ...]:
        return tuple(Metric(name, Kind(metric.type), metric.help, metric.labels) for name, metric in self.metrics.items())


class PostgresSettings(PooledSettings):
    """A PostgreSQL server. Needs a `url` or a `host`; keys beside the URL win over its parts, and are taken literally."""

    model_config = URL_OR_HOST
    up: ClassVar[Metric] = UP
    default_retry: ClassVar[RetryPreset] = "fast"

    type: Literal["postgres"]
    url: Annotated[
        SecretText | None,
        Field(description="postgresql://user:password@host:port/database?sslmode=verify-full, or as SQLAlchemy writes it."),
    ] = None
    host: Annotated[
        Text | None,
        Field(description="Host name, address, or the folder of a Unix socket; default localhost where the url names none."),
    ] = None
    port: Annotated[Count | None, Field(ge=1, le=65535, description="Port; default 5432.")] = None
    username: Annotated[Text | None, Field(description="Role to log in as; default the system's user.")] = None
    password: Annotated[SecretText | None, Field(description="Its password, literally.")] = None
    database: Annotated[Text | None, Field(description="Database to connect to; default the name of the role.")] = None
    collect: Annotated[
        dict[Group, OwnSchedule],
        BeforeValidator(by_name, json_schema_input_type=set[Group] | dict[Group, OwnSchedule | None]),
        Field(description="Built-in collectors: a list, or a mapping in which each can have settings of its own."),
    ] = {
        "database": OwnSchedule(),
        "activity": OwnSchedule(),
        "locks": OwnSchedule(),
        "replication": OwnSchedule(),
        "settings": OwnSchedule(),
    }
    queries: Annotated[
        dict[Name, Query], Field(description="Queries of yours by name, each a collector on a schedule of its own.")
    ] = {}

    def declared(self) -> tuple[Metric, ...]:
        groups = tuple(metric for group in self.collect for metric in GROUPS[group].metrics)
        return (self.up, *groups, *(metric for query in self.queries.values() for metric in query.declared()))

    def own_schedules(self) -> Mapping[str, OwnSchedule]:
        return dict((*self.collect.items(), *self.queries.items()))

    @property
    def server(self) -> Server:
        """Where to connect and as whom, fields beside the URL included. A host that begins with `/` is a socket's folder.

        Raises:
            ValueError: the URL cannot be read, or neither a url nor a host is given; with a sentence for the user.
        """
        url = parse_server(self.url, SCHEMES) if self.url is not None else None
        if url is None and self.host is None:
            raise ValueError("needs a url or a host")
        base = _with_query(url or Server("postgresql", "", None))
        server = base.overridden(
            host=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            path=self.database,
            default_port=DEFAULT_PORT,
        )
        self._check_sslmode(server)
        return server if server.host else replace(server, host="localhost")

    def advice(self) -> Iterator[str]:
        """A parameter such as `options` is not passed on: it could undo what makes our sessions read-only."""
        for name in self.server.query.keys() - READ - OURS:
            if not name.startswith("keepalives"):
                shown = name if re.fullmatch(r"[a-z_]{1,40}", name) else HIDDEN
                yield f"the url's parameter {shown} is not read here; what it asks for does not hold for the exporter"

    @property
    def sslmode(self) -> str:
        """The one in the URL; else, as `tls:` says, verify-full or require; else prefer, as libpq.

        Raises:
            ValueError: as `server`.
        """
        return self.server.sslmode or self._default_sslmode

    @property
    def tls_material(self) -> Mapping[str, str]:
        """The files that the URL names, by the names they have under `tls:`, which wins over them."""
        query = self.server.query
        named = {"ca_file": "sslrootcert", "cert_file": "sslcert", "key_file": "sslkey"}
        return {ours: query[theirs] for ours, theirs in named.items() if query.get(theirs) and query[theirs] != "system"}

    @property
    def _default_sslmode(self) -> str:
        if self.tls is None:
            return "prefer"
        return "require" if self.tls.insecure_skip_verify else "verify-full"

    def _check_sslmode(self, server: Server) -> None:
        written = server.sslmode
        if written is not None and written not in SSLMODES:
            raise ValueError(f"unknown sslmode in the url; it is one of {', '.join(SSLMODES)}")
        if written in ("verify-ca", "verify-full") and self.tls is not None and self.tls.insecure_skip_verify:
            raise ValueError(f"sslmode={written} in the url contradicts tls.insecure_skip_verify")


def _with_query(server: Server) -> Server:
    """The server with the host and port of the URL's query, as libpq takes them: `postgresql:///db?host=/run/postgresql`."""
    host, port = server.query.get("host", server.host), server.query.get("port")
    if "," in host:
        raise ValueError("names more than one host; write a probe for each")
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("the port in the url's query is not a port")
    return replace(server, host=host, port=server.port if port is None else int(port))
