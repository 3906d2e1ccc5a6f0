"""A message of our own to the broker and back, on a connection that does nothing else. Knows no metric and no verdict."""

import asyncio
import secrets
from collections.abc import Mapping

from exporter.drivers.amqp import Blocked, Channel, Message, Outgoing, Session
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.probes.rabbitmq.passive import Looker

MESSAGE_SECONDS = 10.0
"""How long a message of ours may lie in its queue: what an alarm held up is of no use later."""
# a virtual host can make queues quorum queues by default, which are never exclusive
_ARGUMENTS: Mapping[str, str | int] = {"x-queue-type": "classic", "x-max-length": 10}


class Speaker:
    """One session with a queue of its own, which goes when the session does; mutable: it remembers what it may not do.

    `name` begins the queue's name. Its random end keeps a half-open session's queue, which the broker holds until it misses
    the heartbeats, from being in the way of the next.
    """

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.forbidden: ProbeError | None = None
        """Why it can declare no queue; the broker is not asked again on this session, as it logs each time."""
        self.queues = Looker(session)
        self._queue = f"{name}.{secrets.token_hex(4)}"
        self._channel: Channel | None = None
        self._arrivals: dict[bytes, asyncio.Future[None]] = {}

    async def round_trip(self) -> Blocked | None:
        """Publishes, sees the broker confirm it, and receives it. Blocked, returned, says that the session goes on later.

        Raises:
            ProbeError: it cannot be done on this session. Where it may not declare a queue, `forbidden` says so instead.
        """
        channel = await self._ready_channel()
        if channel is None:
            return None
        nonce = secrets.token_hex(8).encode()
        arrival = self._arrivals[nonce] = asyncio.get_running_loop().create_future()
        try:
            await channel.publish(Outgoing(nonce, expires_seconds=MESSAGE_SECONDS), routing_key=self._queue, mandatory=True)
            await self.session.arrival("own message back", arrival)
        except Blocked as blocked:
            return blocked
        finally:
            del self._arrivals[nonce]
        return None

    async def _ready_channel(self) -> Channel | None:
        if self._channel is None and self.forbidden is None:
            try:
                self._channel = await self._open()
            except ProbeError as error:
                if error.reason is not Reason.FORBIDDEN or not self.session.alive:
                    raise
                self.forbidden = error
        return self._channel

    async def _open(self) -> Channel:
        channel = await self.session.channel(confirms=True)
        await channel.declare_queue(self._queue, exclusive=True, auto_delete=True, arguments=_ARGUMENTS)
        await channel.consume(self._queue, self._receive)
        return channel

    def _receive(self, message: Message) -> None:
        arrival = self._arrivals.get(message.body)
        if arrival is not None and not arrival.done():
            arrival.set_result(None)
