"""Celery's broker is RabbitMQ: commands by a fanout exchange, events by a topic exchange into a durable queue of ours.

The queue is bounded and outlives us: what happened while we were away is counted when we are back. Knows no metric.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Mapping, Sequence

from exporter.drivers import amqp as driver
from exporter.drivers.amqp import Blocked, Channel, Login, NotFound, Outgoing, Session
from exporter.drivers.dns import Resolver
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.probes.address import Server
from exporter.probes.celery.broker import Heard, Hold, Lengths, Names
from exporter.probes.celery.protocol import (
    COMMAND_HEADERS,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CONTROL_EXCHANGE,
    EVENT_EXCHANGE,
    Command,
    Message,
    ReplyTo,
)

PREFETCH = 1000
AT_A_TIME = 20
"""Messages that are handed on together, between two looks at everything else: a batch of them is some milliseconds of work."""
NONCE_SECONDS = 10.0
LOOK_AGAIN_SECONDS = (4.0, 60.0)
"""How long a missing queue is left alone, at first and at last, twice as long each time: the broker logs each look at it."""

# classic: a virtual host can make queues quorum queues by default. Ten minutes, or so many messages, of an absence.
_EVENT_QUEUE: Mapping[str, str | int] = {
    "x-queue-type": "classic",
    "x-expires": 600_000,
    "x-message-ttl": 600_000,
    "x-max-length": 100_000,
    "x-max-length-bytes": 32 * 1024 * 1024,
}
_REPLY_QUEUE: Mapping[str, str | int] = {"x-queue-type": "classic", "x-max-length": 1000}


class Missing:
    """Which queues were not there, and until when nobody looks again; mutable, shared by the lines of one broker."""

    def __init__(self) -> None:
        self._left_alone: dict[str, tuple[float, float]] = {}

    def is_left_alone(self, queue: str, now: float) -> bool:
        until, _ = self._left_alone.get(queue, (0.0, 0.0))
        return now < until

    def missed(self, queue: str, now: float) -> None:
        first, last = LOOK_AGAIN_SECONDS
        _, before = self._left_alone.get(queue, (0.0, first / 2))
        wait = min(2 * before, last)
        self._left_alone[queue] = now + wait, wait

    def found(self, queue: str) -> None:
        self._left_alone.pop(queue, None)


class AmqpBroker:
    """One virtual host; mutable: it remembers which queues are missing."""

    def __init__(self, server: Server, tls: Tls | None, names: Names, resolver: Resolver) -> None:
        place = driver.Endpoint(server.host, server.port or 0, tls)
        self._login = Login(place, server.username, server.password, server.path)
        self._names = names
        self._resolver = resolver
        self._missing = Missing()

    async def connect(self, role: str, hold: Hold) -> "AmqpLine":
        """A connection that asks; its reply queue is made when it first does."""
        session = await driver.connect(self._login, self._resolver, hold)
        return AmqpLine(session, self._names, role, self._missing)

    async def listen(self, hold: Hold) -> "AmqpEar":
        """A connection on which all events of the queue arrive; one after the other, each until it is settled."""
        session = await driver.connect(self._login, self._resolver, hold)
        try:
            await _find_exchange(session)
            ear = AmqpEar(session, await session.channel(), self._names)
            await ear.open()
        except BaseException:
            session.abort()
            raise
        return ear

    def translate(self, error: Exception) -> ProbeError | None:
        return driver.translate(error)


async def _find_exchange(session: Session) -> None:
    """Makes the exchange of events, as a worker would, where there has never been one (celery/events/event.py)."""
    try:
        channel = await session.channel()
        await channel.find_exchange(EVENT_EXCHANGE)
    except NotFound:
        channel = await session.channel()
        await channel.declare_exchange(EVENT_EXCHANGE, "topic", durable=True)
    await channel.close()


class AmqpLine:
    """One session that asks; mutable. Publishing and looking have a channel each: the broker closes one with each refusal."""

    def __init__(self, session: Session, names: Names, role: str, missing: Missing) -> None:
        self._session = session
        self._names = names
        # the random end keeps a half-open session's queue, which the broker holds for a while, from being in the way
        self._reply_queue = f"{names.reply(role)}.{secrets.token_hex(4)}"
        self._missing = missing
        self._publishing: Channel | None = None
        self._looking: Channel | None = None
        self._answering: Channel | None = None
        self._answers: deque[driver.Message] = deque(maxlen=1000)
        self._arrival: asyncio.Future[None] | None = None

    @property
    def alive(self) -> bool:
        return self._session.alive

    @property
    def blocked(self) -> bool:
        return self.alive and self._session.blocked is not None

    @property
    def encrypted(self) -> bool:
        return self._session.encrypted

    @property
    def version(self) -> str:
        return self._session.server.version

    def abort(self) -> None:
        self._session.abort()

    async def ask(self, command: Command, expires_seconds: float) -> int | None:
        """Publishes to all workers. They make the exchange: without it there has never been one, and 0 hear it."""
        if self._answering is None or not self._answering.alive:
            self._answering = await self._open_answers()
        message = Outgoing(
            command.body(ReplyTo(self._reply_queue)), CONTENT_TYPE, CONTENT_ENCODING, COMMAND_HEADERS, expires_seconds
        )
        try:
            await (await self._publisher()).publish(message, exchange=CONTROL_EXCHANGE)
        except NotFound:
            return 0
        return None

    async def answer(self, within_seconds: float) -> Message | None:
        if not self._answers:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(within_seconds):
                    await self._session.arrival("answers of workers", self._arrival)
            except TimeoutError:
                return None
            finally:
                self._arrival = None
        return _message(self._answers.popleft())

    async def prove(self) -> None:
        """Opens a channel; but a broker that takes no messages answers nothing here, and is known to."""
        if self._session.blocked is not None:
            raise Blocked(f"ping of workers on {self._session.place}: the broker takes no messages: {self._session.blocked}")
        channel = await self._session.channel()
        await channel.close()

    async def send_nonce(self, nonce: str) -> None:
        message = Outgoing(nonce.encode(), "text/plain", expires_seconds=NONCE_SECONDS)
        await (await self._publisher()).publish(message, routing_key=self._names.events, mandatory=True)

    async def listeners(self) -> int | None:
        try:
            return (await (await self._looker()).depth(self._names.events)).consumers
        except ProbeError as error:
            if self._may_go_on(error):
                return None
            raise

    async def lengths(self, queues: Sequence[str]) -> Lengths:
        now = asyncio.get_running_loop().time()
        found: dict[str, int] = {}
        refusal: ProbeError | None = None
        for queue in queues:
            if self._missing.is_left_alone(queue, now):
                continue
            try:
                found[queue] = (await (await self._looker()).depth(queue)).messages_ready
                self._missing.found(queue)
            except NotFound:
                self._missing.missed(queue, now)
            except ProbeError as error:
                if not self._may_go_on(error):
                    raise
                refusal = refusal or error
        return Lengths(found, refusal)

    def _may_go_on(self, error: ProbeError) -> bool:
        """Whether it is the broker's answer, and no trouble with the session."""
        return self.alive and (isinstance(error, NotFound) or error.reason is Reason.FORBIDDEN)

    async def _publisher(self) -> Channel:
        if self._publishing is None or not self._publishing.alive:
            self._publishing = await self._session.channel(confirms=True)
        return self._publishing

    async def _looker(self) -> Channel:
        if self._looking is None or not self._looking.alive:
            self._looking = await self._session.channel()
        return self._looking

    async def _open_answers(self) -> Channel:
        channel = await self._session.channel()
        await channel.declare_queue(self._reply_queue, exclusive=True, auto_delete=True, arguments=dict(_REPLY_QUEUE))
        await channel.consume(self._reply_queue, self._receive)
        return channel

    def _receive(self, message: driver.Message) -> None:
        self._answers.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class AmqpEar:
    """One session that consumes the event queue and never publishes; mutable."""

    def __init__(self, session: Session, channel: Channel, names: Names) -> None:
        self._session = session
        self._channel = channel
        self._queue = names.events
        self._inbox: deque[driver.Message] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._unsettled: int | None = None

    async def open(self) -> None:
        """Makes the queue, binds it to all events, and begins to consume it."""
        await self._channel.declare_queue(self._queue, durable=True, arguments=dict(_EVENT_QUEUE))
        await self._channel.bind(self._queue, EVENT_EXCHANGE, "#")
        await self._channel.consume(self._queue, self._receive, prefetch=PREFETCH)

    def abort(self) -> None:
        self._session.abort()

    async def hear(self) -> Sequence[Heard]:
        while not self._inbox:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._session.arrival("events", self._arrival)
        few = [self._inbox.popleft() for _ in range(min(AT_A_TIME, len(self._inbox)))]
        self._unsettled = few[-1].delivery_tag
        return [_heard(message) for message in few]

    async def settle(self) -> None:
        tag, self._unsettled = self._unsettled, None  # at first: a tag settled twice, after a cancel meanwhile, ends the channel
        if tag is not None:
            await self._channel.acknowledge(tag, multiple=True)

    async def finish(self) -> None:
        """A channel's methods are done in their order: what has an answer comes after what has none."""
        await self._channel.depth(self._queue)

    def _receive(self, message: driver.Message) -> None:
        self._inbox.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


def _heard(message: driver.Message) -> Heard:
    """Events come by their exchange; what was sent to the queue itself is a nonce, ours or an earlier process's."""
    if message.exchange != EVENT_EXCHANGE:
        return Heard(nonce=message.body.decode(errors="replace"))
    return Heard(_message(message), again=message.redelivered)


def _message(message: driver.Message) -> Message:
    return Message(message.body, message.content_type or "", message.content_encoding or "", message.headers)
