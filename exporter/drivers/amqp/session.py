"""A session with a broker: logging in over aiormq, channels, and the few methods that probes need.

Every method is one that any broker of AMQP 0-9-1 knows; what only RabbitMQ says (confirms, being blocked) is told where it is
used. Knows no metric, no probe and no schedule.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.connection import TransportFactory
from pamqp import commands
from pamqp.common import FieldTable, FieldValue
from yarl import URL

from exporter import phase
from exporter.drivers.amqp.errors import Blocked, Stage, translated
from exporter.drivers.amqp.line import Endpoint, Line, open_line
from exporter.drivers.dns import Resolver
from exporter.secret import Secret, one_line

CONNECTION_NAME = "sidecar-exporter"
HEARTBEAT_SECONDS = 10
"""The broker ends a connection that has been silent for twice as long, so what a half-open one of ours holds is soon given
back; aiormq gives up after 3 × (10 + 1) s, so that a broker frozen for a moment finds us again."""

GOODBYE_SECONDS = 0.5
"""How long a broker may take to end a connection in good order; RabbitMQ logs a warning for one that just ends."""

_PROPERTY_LENGTH = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Login:
    """As whom to log in, to which virtual host, and where. RabbitMQ's own defaults: guest, guest, `/`."""

    endpoint: Endpoint
    username: str | None = None
    password: Secret | None = None
    vhost: str = "/"


@dataclass(frozen=True, slots=True)
class Server:
    """What a broker says of itself in its greeting; empty where it says nothing."""

    product: str
    version: str
    cluster: str


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue as a passive declare shows it: messages ready for delivery, those unacknowledged not counted, and consumers."""

    messages_ready: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message as delivered. `headers` are as the publisher made them: strangers' words."""

    body: bytes
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    content_type: str | None
    content_encoding: str | None
    headers: Mapping[str, FieldValue]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish, never stored on the broker's disk. After `expires_seconds` in a queue it is dropped."""

    body: bytes
    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, FieldValue] = field(default_factory=dict)
    expires_seconds: float | None = None
    reply_to: str | None = None
    correlation_id: str | None = None

    @property
    def properties(self) -> commands.Basic.Properties:
        return commands.Basic.Properties(
            content_type=self.content_type,
            content_encoding=self.content_encoding,
            headers=dict(self.headers),
            delivery_mode=1,
            reply_to=self.reply_to,
            correlation_id=self.correlation_id,
            # milliseconds, as text (RabbitMQ manual, "Time-To-Live and Expiration")
            expiration=None if self.expires_seconds is None else str(round(self.expires_seconds * 1000)),
        )


class Session:
    """One logged-in connection; mutable: it ends, and it can be blocked."""

    def __init__(self, login: Login, line: Line, connection: aiormq.Connection) -> None:
        self.place = login.endpoint.place
        self.vhost = login.vhost
        self.encrypted = login.endpoint.tls is not None
        self.server = _server_of(connection.server_properties)
        self._line = line
        self._connection = connection

    @property
    def alive(self) -> bool:
        return self._connection.is_opened and not self._line.ended.done()

    @property
    def blocked(self) -> str | None:
        """Why the broker takes no messages now, in its own words; None while it does.

        RabbitMQ says so by Connection.Blocked, and only to connections that have published. Until it unblocks the
        connection it answers nothing else on it either.
        """
        reason = self._line.frames.blocked
        return None if reason is None else one_line(reason, _PROPERTY_LENGTH)

    async def channel(self, *, confirms: bool = False) -> "Channel":
        """A new channel; with `confirms` each publish on it waits until the broker has taken the message."""
        where = f"open a channel on {self.place}"
        with phase.waiting(where), translated(where, self._line.frames):
            return Channel(self, self._line, await self._connection.channel(publisher_confirms=confirms))

    async def wait_ended(self) -> None:
        """Returns when the connection has ended, by whomever."""
        await asyncio.wait((self._line.ended,))

    async def arrival(self, what: str, awaited: "asyncio.Future[T]") -> T:
        """The result of a future that a message of this session is to bring.

        Raises:
            ProbeError: the session ends before.
        """
        where = f"{what} from {self.place}"
        with phase.waiting(where), translated(where, self._line.frames):
            await asyncio.wait((awaited, self._line.ended), return_when=asyncio.FIRST_COMPLETED)
            if awaited.done():
                return awaited.result()
            raise ConnectionResetError

    async def close(self) -> None:
        """Ends it in good order, within half a second; what then still waits for an answer gets none."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._connection.close()
        except TimeoutError:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Ends it at once, without a word to the broker."""
        self._line.abort()


class Channel:
    """One channel of a session; mutable: the broker closes it with its first refusal, and the session goes on.

    Every method raises ProbeError: NotFound where the broker has no such queue or exchange, reason forbidden where the login
    may not, reason config where it is there but made otherwise.
    """

    def __init__(self, session: Session, line: Line, channel: AbstractChannel) -> None:
        self._session = session
        self._line = line
        self._channel = channel

    @property
    def alive(self) -> bool:
        return self._session.alive and not self._channel.is_closed

    async def declare_queue(
        self,
        name: str,
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, FieldValue] | None = None,
    ) -> str:
        """Makes the queue if it is not there; its name, which the broker chooses when `name` is empty."""
        with self._doing(f"declare queue {name}"):
            answer = await self._channel.queue_declare(
                name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=dict(arguments or {})
            )
        return answer.queue or name

    async def depth(self, queue: str) -> Depth:
        """What is in a queue, by a passive declare, which changes nothing. RabbitMQ 4.2.6 and 4.3.0 want the right to configure."""
        with self._doing(f"queue {queue}"):
            answer = await self._channel.queue_declare(queue, passive=True)
        return Depth(answer.message_count or 0, answer.consumer_count or 0)

    async def close(self) -> None:
        """Closes the channel in good order, so that its number is free again."""
        with self._doing("close a channel"):
            await self._channel.close()

    async def delete_queue(self, name: str) -> None:
        with self._doing(f"delete queue {name}"):
            await self._channel.queue_delete(name)

    async def find_exchange(self, name: str) -> None:
        """Nothing when the exchange is there."""
        with self._doing(f"exchange {name}"):
            await self._channel.exchange_declare(name, passive=True)

    async def declare_exchange(self, name: str, kind: Literal["direct", "fanout", "topic"], *, durable: bool = False) -> None:
        with self._doing(f"declare exchange {name}"):
            await self._channel.exchange_declare(name, exchange_type=kind, durable=durable)

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        with self._doing(f"bind queue {queue} to {exchange}"):
            await self._channel.queue_bind(queue, exchange, routing_key)

    async def consume(self, queue: str, receive: Callable[[Message], None], *, prefetch: int = 0) -> None:
        """Has every message of the queue given to `receive`, which must not raise.

        With `prefetch` so many may be unacknowledged at a time, and each wants `acknowledge`; without it, each counts as
        acknowledged as soon as it is sent.
        """

        async def deliver(delivered: DeliveredMessage) -> None:
            receive(_message_of(delivered))

        with self._doing(f"consume from queue {queue}"):
            if prefetch:
                await self._channel.basic_qos(prefetch_count=prefetch)
            await self._channel.basic_consume(queue, deliver, no_ack=not prefetch)

    async def acknowledge(self, delivery_tag: int, *, multiple: bool = False) -> None:
        """Has the broker forget the message, with `multiple` all up to it; returns when it is written, there is no answer."""
        with self._doing("acknowledge"):
            await self._channel.basic_ack(delivery_tag, multiple=multiple)

    async def publish(self, message: Outgoing, *, exchange: str = "", routing_key: str = "", mandatory: bool = False) -> None:
        """Publishes; on a channel with confirms it returns when the broker has taken it.

        Raises:
            Blocked: the broker takes no messages; nothing is sent while that is known.
            ProbeError: reason assertion; `mandatory`, and no queue takes it (on a channel with confirms).
        """
        what = f"publish to {exchange or routing_key}"
        with self._doing(what):
            async with self._unless_blocked(what):
                await self._channel.basic_publish(
                    message.body, exchange=exchange, routing_key=routing_key, properties=message.properties, mandatory=mandatory
                )

    @asynccontextmanager
    async def _unless_blocked(self, what: str) -> AsyncIterator[None]:
        """Ends the block when the broker blocks us: what was sent gets its answer only when it is over."""
        if self._session.blocked is None:
            try:
                async with asyncio.timeout(None) as limit:
                    with self._line.telling(lambda: limit.reschedule(0)):
                        yield
            except TimeoutError:
                if not limit.expired():
                    raise
            else:
                return
        raise Blocked(f"{what} on {self._session.place}: the broker takes no messages: {self._session.blocked}")

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        where = f"{what} on {self._session.place}"
        with phase.waiting(where), translated(where, self._line.frames):
            yield


async def connect(login: Login, resolver: Resolver, hold: Callable[[Callable[[], None]], None]) -> Session:
    """A new session. `hold` is given what aborts it as soon as there is something to abort.

    Raises:
        ProbeError: it cannot be had: reason auth where the login is refused, forbidden where the virtual host is.
    """
    # Each lost connection would be a line and a traceback there; what went wrong is told by us, once.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    line = await open_line(login.endpoint, resolver, hold)
    hold(line.abort)
    place = login.endpoint.place

    def where() -> str:
        return f"open vhost {login.vhost} on {place}" if line.frames.stage is Stage.OPENING else f"log in to {place}"

    connection = _connection_over(line, login)
    try:
        with phase.waiting(f"log in to {place}"), translated(where, line.frames):
            await connection.connect()
    except BaseException:
        line.abort()
        raise
    session = Session(login, line, connection)
    hold(session.abort)
    return session


class _Opened(TransportFactory):
    """Gives aiormq the line that is there already."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def create(self, url: URL, **_options: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self._line.reader, self._line.writer


def _connection_over(line: Line, login: Login) -> aiormq.Connection:
    """What aiormq takes from a URL, put together so that nothing in a name or a password can be taken for another part."""
    url = URL.build(
        scheme="amqp",
        host="localhost",  # never looked up: the line is there
        user=login.username or None,
        password=login.password.reveal() if login.password else None,
        query={"heartbeat": str(HEARTBEAT_SECONDS), "name": CONNECTION_NAME},
    )
    connection = aiormq.Connection(url, transport_factory=_Opened(line), client_properties={"product": CONNECTION_NAME})
    connection.vhost = login.vhost
    return connection


def _server_of(properties: FieldTable | None) -> Server:
    told = properties or {}
    product, version, cluster = (told.get(key) for key in ("product", "version", "cluster_name"))
    return Server(_text(product), _text(version), _text(cluster))


def _text(value: FieldValue) -> str:
    return one_line(value, _PROPERTY_LENGTH) if isinstance(value, str) else ""


def _message_of(delivered: DeliveredMessage) -> Message:
    properties = delivered.header.properties
    return Message(
        body=delivered.body,
        delivery_tag=delivered.delivery_tag or 0,
        redelivered=bool(delivered.redelivered),
        exchange=delivered.exchange or "",
        routing_key=delivered.routing_key or "",
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=properties.headers or {},
    )
