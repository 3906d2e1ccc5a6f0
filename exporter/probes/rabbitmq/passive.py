"""Queues as a passive declare shows them, which needs no right and changes nothing. Knows no metric and no verdict."""

from collections.abc import Iterable, Mapping

from exporter.drivers.amqp import Channel, Depth, NotFound, Session
from exporter.errors import ProbeError
from exporter.model import Reason

Sight = Depth | ProbeError
"""What is in a queue; or that it is missing (NotFound), or that this login cannot see it (forbidden)."""


class Looker:
    """Looks at queues over one session; mutable: the broker closes a channel with each refusal."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._channel: Channel | None = None

    async def look(self, queues: Iterable[str]) -> Mapping[str, Sight]:
        """Each queue in turn.

        Raises:
            ProbeError: the broker does not answer as it should.
        """
        return {queue: await self._look_at(queue) for queue in queues}

    async def prove(self) -> None:
        """Has the broker answer something that needs no right. Raises ProbeError when it does not."""
        channel = await self.session.channel()
        await channel.close()

    async def _look_at(self, queue: str) -> Sight:
        if self._channel is None:
            self._channel = await self.session.channel()
        try:
            return await self._channel.depth(queue)
        except ProbeError as error:
            self._channel = None
            if self.session.alive and (isinstance(error, NotFound) or error.reason is Reason.FORBIDDEN):
                return error
            raise
