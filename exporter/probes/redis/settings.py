"""What can be written under a probe of type redis. Knows no driver."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from exporter.model import Kind, Metric
from exporter.probes.address import URL_OR_HOST, Server, parse_server
from exporter.probes.base import OwnSchedule, RetryPreset
from exporter.probes.fields import Count, SecretText, Text
from exporter.probes.pooled import PooledSettings, by_name
from exporter.probes.redis import info

SCHEMES = ("redis", "rediss", "unix")
DEFAULT_PORT = 6379
LAST_DB = 2**31 - 1

UP = Metric("redis_up", Kind.GAUGE, "Whether the last check reached the server: 1, or 0 when it failed.")

Group = Literal["info"]
GROUPS = {"info": info.METRICS}

_NO_VERIFICATION = ("none", "cert_none")  # redis-py's word, and Celery's, in `?ssl_cert_reqs=`


class RedisSettings(PooledSettings):
    """A Redis or Valkey server. Needs a `url` or a `host`; keys beside the URL win over its parts, and are taken literally."""

    model_config = URL_OR_HOST
    up: ClassVar[Metric] = UP
    default_retry: ClassVar[RetryPreset] = "quick"

    type: Literal["redis"]
    url: Annotated[
        SecretText | None,
        Field(
            description="redis://user:password@host:port/db, rediss:// for TLS, or unix:///path?db=0; with ?protocol=2 by RESP2."
        ),
    ] = None
    host: Annotated[
        Text | None,
        Field(description="Host name, address, or the path of a Unix socket; default localhost where the url names none."),
    ] = None
    port: Annotated[Count | None, Field(ge=1, le=65535, description="Port; default 6379.")] = None
    username: Annotated[Text | None, Field(description="ACL user; default the one that Redis calls default.")] = None
    password: Annotated[SecretText | None, Field(description="Its password, literally.")] = None
    db: Annotated[Count | None, Field(ge=0, le=LAST_DB, description="Number of the database; default 0.")] = None
    collect: Annotated[
        dict[Group, OwnSchedule],
        BeforeValidator(by_name, json_schema_input_type=set[Group] | dict[Group, OwnSchedule | None]),
        Field(description="Built-in collectors: a list, or a mapping in which each can have settings of its own."),
    ] = {"info": OwnSchedule()}

    def declared(self) -> tuple[Metric, ...]:
        return (self.up, *(metric for group in self.collect for metric in GROUPS[group]))

    def own_schedules(self) -> Mapping[str, OwnSchedule]:
        return dict(self.collect.items())

    @property
    def server(self) -> Server:
        """Where to connect and as whom, fields beside the URL included; `path` is the database's number.

        A host that begins with `/` is a Unix socket.

        Raises:
            ValueError: the URL cannot be read, or neither a url nor a host is given; with a sentence for the user.
        """
        url = parse_server(self.url, SCHEMES) if self.url is not None else None
        if url is None and self.host is None:
            raise ValueError("needs a url or a host")
        server = _located(url or Server("redis", "", None)).overridden(
            host=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            path=None if self.db is None else str(self.db),
            default_port=DEFAULT_PORT,
        )
        _check(server)
        return server if server.host else replace(server, host="localhost")

    @property
    def database(self) -> int:
        """The number of the database. Raises ValueError as `server`."""
        return int(self.server.path or 0)

    @property
    def protocol(self) -> Literal[2, 3]:
        """The version of RESP to begin with. Raises ValueError as `server`."""
        return 2 if self.server.query.get("protocol") == "2" else 3

    @property
    def speaks_tls(self) -> bool:
        """Whether TLS is spoken; by way of a Unix socket never. Raises ValueError as `server`."""
        server = self.server
        return not server.host.startswith("/") and (server.demands_tls or self.tls is not None)

    @property
    def tls_material(self) -> Mapping[str, object]:
        """What the URL's query says of TLS, by the names it has under `tls:`, which wins over it. Raises ValueError as `server`."""
        query = self.server.query
        named = {"ca_file": "ssl_ca_certs", "cert_file": "ssl_certfile", "key_file": "ssl_keyfile"}
        files = {ours: query[theirs] for ours, theirs in named.items() if query.get(theirs)}
        unverified = query.get("ssl_cert_reqs", "").lower() in _NO_VERIFICATION
        return {**files, "insecure_skip_verify": True} if unverified else files


def _located(server: Server) -> Server:
    """The server as redis-py reads its URL: a socket's path is its host, and `?db=` wins over a number in the path."""
    if server.scheme == "unix":
        if server.host or not server.path:
            raise ValueError("not the URL of a Unix socket; write unix:///path/of/the/socket?db=0")
        server = replace(server, host=f"/{server.path}", path="")
    return replace(server, path=server.query.get("db", server.path.rstrip("/")))


def _check(server: Server) -> None:
    """Raises ValueError for a database or a protocol that is none."""
    path = server.path
    if path and not (path.isascii() and path.isdigit() and len(path) <= 10 and int(path) <= LAST_DB):
        raise ValueError("the database in the url is not a number")
    if server.query.get("protocol", "3") not in ("2", "3"):
        raise ValueError("the protocol in the url is neither 2 nor 3")
