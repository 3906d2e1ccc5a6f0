"""What can be written under a probe of type celery. Knows no driver, and no Celery."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from exporter.model import Metric
from exporter.probes.address import Server, parse_server
from exporter.probes.base import ProbeSettings
from exporter.probes.celery.metrics import DECLARED, UP
from exporter.probes.fields import Count, Flag, SecretText, Text
from exporter.secret import Secret

RABBITMQ, REDIS = "rabbitmq", "redis"
"""Both kinds of broker, by the names of their own probe types."""


_KOMBU_AMQP = "pyamqp"  # kombu's name for amqp
_AMQP = ("amqp", "amqps", _KOMBU_AMQP)
_REDIS = ("redis", "rediss")
_AMQP_PORT, _AMQPS_PORT, _REDIS_PORT = 5672, 5671, 6379
_SOCKETS = ("redis+socket://", "unix://")  # kombu's and redis-py's way to write a Unix socket
_NO_VERIFICATION = ("none", "cert_none")  # redis-py's word, and Celery's
MOST_CONNECTIONS = 4
"""The check's, the queues', and the listener's two: one that hears and never speaks, one that speaks."""


class CelerySettings(ProbeSettings):
    """The workers of a Celery application, found by way of its broker."""

    up: ClassVar[Metric] = UP

    type: Literal["celery"]
    broker_url: Annotated[
        SecretText,
        Field(description="The application's own broker_url: amqp://, amqps://, redis://, rediss:// or redis+socket://."),
    ]
    username: Annotated[Text | None, Field(description="User at the broker; default the URL's.")] = None
    password: Annotated[SecretText | None, Field(description="Its password, literally; default the URL's.")] = None
    queues: Annotated[tuple[Text, ...], Field(description="Queues whose length is read.")] = ("celery",)
    workers: Annotated[tuple[Text, ...], Field(description="Workers that must all be up, by node name such as celery@host.")] = ()
    min_workers: Annotated[Count, Field(ge=0, description="How many workers must be up, where none is named.")] = 1
    enable_task_events: Annotated[
        Flag, Field(description="Ask workers that do not send task events to do so; they do until they restart.")
    ] = False

    def declared(self) -> tuple[Metric, ...]:
        return DECLARED

    def connections(self) -> int | None:
        return MOST_CONNECTIONS

    @property
    def server(self) -> Server:
        """Where the broker is. `path` is the virtual host, `/` by default, or the number of Redis' database; a Unix socket is
        the host.

        Raises:
            ValueError: the URL cannot be read; with a sentence for the user.
        """
        text = self.broker_url.reveal().strip()
        if ";" in text:
            raise ValueError("names several brokers; name one, and make a probe for each")
        server = _socket(self.broker_url) if text.startswith(_SOCKETS) else parse_server(self.broker_url, (*_AMQP, *_REDIS))
        server = replace(
            server,
            host=server.host or "localhost",
            username=server.username if self.username is None else self.username,
            password=server.password if self.password is None else self.password,
        )
        if server.scheme in _AMQP:
            return self._amqp(replace(server, scheme="amqp" if server.scheme == _KOMBU_AMQP else server.scheme))
        if server.scheme in _REDIS:
            server = replace(server, port=server.port or _REDIS_PORT)
        return replace(server, path=_database(server.path or server.query.get("virtual_host", "")))

    def _amqp(self, server: Server) -> Server:
        default_port = _AMQPS_PORT if server.demands_tls or self.tls is not None else _AMQP_PORT
        return replace(server, port=server.port or default_port, path=server.path or "/")

    @property
    def broker(self) -> str:
        """The kind of broker.

        Raises:
            ValueError: as `server`.
        """
        return RABBITMQ if self.server.scheme in _AMQP else REDIS

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken; by way of a Unix socket never. Raises ValueError as `server`."""
        server = self.server
        return server.scheme != "unix" and (server.demands_tls or self.tls is not None)

    @property
    def tls_material(self) -> Mapping[str, object]:
        """What the URL's query says of TLS, as Celery wants it there for rediss://, by the names it has under `tls:`.

        Raises:
            ValueError: as `server`.
        """
        query = self.server.query
        named = {"ca_file": "ssl_ca_certs", "cert_file": "ssl_certfile", "key_file": "ssl_keyfile"}
        files: dict[str, object] = {ours: query[theirs] for ours, theirs in named.items() if query.get(theirs)}
        unverified = query.get("ssl_cert_reqs", "").lower() in _NO_VERIFICATION
        return {**files, "insecure_skip_verify": True} if unverified else files

    def rests_on(self, other: ProbeSettings) -> bool:
        """The broker may be the server that another probe looks at: RabbitMQ's virtual host there, or Redis with any database."""
        theirs = other.server if other.type == self.broker else None
        if theirs is None:
            return False
        ours = self.server
        if ours.host.startswith("/") or theirs.host.startswith("/"):
            return ours.host == theirs.host
        same_host = ours.host.lower() == theirs.host.lower() or (ours.is_loopback and theirs.is_loopback)
        same_place = same_host and ours.port == theirs.port
        return same_place and (self.broker == REDIS or ours.path == (theirs.path or "/"))


def _socket(url: Secret) -> Server:
    parsed = parse_server(url, ("redis", "unix"))
    database = parsed.query.get("virtual_host") or parsed.query.get("db", "")
    return replace(parsed, scheme="unix", host=f"/{parsed.path}", port=None, path=database)


def _database(text: str) -> str:
    """The number of a Redis database, `0` where none is written.

    Raises:
        ValueError: it is not a number; with a sentence for the user.
    """
    text = text.strip("/") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ValueError("the database is not a number; write it such as redis://host:6379/0")
    return str(int(text))
