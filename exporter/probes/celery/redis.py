"""Celery's broker is Redis: commands and events by PUB/SUB, answers by a list. What is published while nobody listens is lost.

Knows no metric.
"""

import secrets
from collections.abc import Sequence

from exporter.drivers import redis as driver
from exporter.drivers.dns import Resolver
from exporter.drivers.redis import Login, Session
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.probes.address import Server
from exporter.probes.celery.broker import Heard, Hold, Lengths, Names
from exporter.probes.celery.protocol import (
    EVENT_EXCHANGE,
    Command,
    Message,
    Rejected,
    ReplyTo,
    control_channel,
    event_pattern,
    priority_keys,
    unwrapped,
    wrapped,
)

SHORTEST_SECONDS = 0.01
"""BRPOP waits for ever when it is told to wait for nothing."""


class RedisBroker:
    """One database of a server."""

    def __init__(self, server: Server, tls: Tls | None, names: Names, resolver: Resolver) -> None:
        place = driver.Endpoint(server.host, server.port or 0, tls)
        self._login = Login(place, server.username, server.password, int(server.path))
        self._names = names
        self._resolver = resolver

    async def connect(self, role: str, hold: Hold) -> "RedisLine":
        """A connection that asks."""
        session = await driver.connect(self._login, self._resolver, hold)
        return RedisLine(session, self._names, role, self._login.db)

    async def listen(self, hold: Hold) -> "RedisEar":
        """A connection on which events arrive from now on: it returns when the server has confirmed all subscriptions."""
        session = await driver.connect(self._login, self._resolver, hold)
        db = self._login.db
        try:
            # without fanout_patterns, an option of the application's transport, the routing key is not part of the channel
            plain = f"/{db}.{EVENT_EXCHANGE}"
            await session.subscribe(channels=(self._names.nonce, plain), patterns=(event_pattern(db),))
        except BaseException:
            session.abort()
            raise
        return RedisEar(session, self._names.nonce.encode())

    def translate(self, error: Exception) -> ProbeError | None:
        return driver.translate(error)


class RedisLine:
    """One session that asks; the workers' answers wait in a list of its own."""

    def __init__(self, session: Session, names: Names, role: str, db: int) -> None:
        self._session = session
        self._names = names
        self._replies = names.reply(role)
        self._control = control_channel(db)

    @property
    def alive(self) -> bool:
        return self._session.alive

    @property
    def blocked(self) -> bool:
        return False

    @property
    def encrypted(self) -> bool:
        return self._session.encrypted

    @property
    def version(self) -> str:
        return self._session.greeting.version if self._session.greeting is not None else ""

    def abort(self) -> None:
        self._session.abort()

    async def ask(self, command: Command, expires_seconds: float) -> int | None:
        """Publishes to all workers; the server tells how many of them there are. Late answers to the last command are dropped."""
        payload = wrapped(command.body(ReplyTo(self._replies)), secrets.token_hex(8))
        dropped, heard_by = await self._session.pipeline(("DEL", self._replies), ("PUBLISH", self._control, payload))
        for answer in (dropped, heard_by):
            if isinstance(answer, ProbeError):
                raise answer
        return heard_by if isinstance(heard_by, int) else None

    async def answer(self, within_seconds: float) -> Message | None:
        popped = await self._session.execute("BRPOP", self._replies, f"{max(within_seconds, SHORTEST_SECONDS):.3f}")
        if not isinstance(popped, list) or len(popped) != 2 or not isinstance(popped[1], bytes):
            return None
        return unwrapped(popped[1])

    async def prove(self) -> None:
        await self._session.execute("PING")

    async def send_nonce(self, nonce: str) -> None:
        await self._session.execute("PUBLISH", self._names.nonce, nonce)

    async def listeners(self) -> int | None:
        """Everybody who subscribes hears everything: nobody takes anything from another."""
        return None

    async def lengths(self, queues: Sequence[str]) -> Lengths:
        """A queue that does not exist is an empty one."""
        found: dict[str, int] = {}
        refusal: ProbeError | None = None
        for queue in queues:
            sizes = await self._session.pipeline(*(("LLEN", key) for key in priority_keys(queue)))
            refused = next((size for size in sizes if isinstance(size, ProbeError)), None)
            refusal = refusal or refused
            if refused is None:
                found[queue] = sum(size for size in sizes if isinstance(size, int))
        return Lengths(found, refusal)


class RedisEar:
    """One session that subscribes and does nothing else."""

    def __init__(self, session: Session, nonce_channel: bytes) -> None:
        self._session = session
        self._nonce_channel = nonce_channel

    def abort(self) -> None:
        self._session.abort()

    async def hear(self) -> Sequence[Heard]:
        published = await self._session.receive()
        if published.channel == self._nonce_channel:
            return (Heard(nonce=published.payload.decode(errors="replace")),)
        try:
            return (Heard(unwrapped(published.payload)),)
        except Rejected as rejected:
            return (Heard(rejection=rejected.rejection),)

    async def settle(self) -> None:
        """Nothing is kept."""

    async def finish(self) -> None:
        """Nothing was settled."""
