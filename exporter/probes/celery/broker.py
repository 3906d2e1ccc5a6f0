"""What a probe needs of a broker, whichever it is: one Protocol, which `amqp` and `redis` fulfil. Knows neither."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter.errors import ProbeError
from exporter.probes.celery.protocol import Command, Message, Rejection

Hold = Callable[[Callable[[], None]], None]
"""Is given what aborts a connection as soon as there is one: `Lease.hold`."""


@dataclass(frozen=True, slots=True)
class Names:
    """What we leave on brokers, all beginning with `exporter.`, so that one pattern can grant it.

    `token` is this process's own: what only it uses. The event queue outlives it.
    """

    instance: str
    token: str

    @property
    def events(self) -> str:
        return f"exporter.{self.instance}.events"

    @property
    def nonce(self) -> str:
        return f"exporter.{self.instance}.nonce.{self.token}"

    def reply(self, role: str) -> str:
        """Where workers answer the connection with that role."""
        return f"exporter.{self.instance}.reply.{role}.{self.token}"


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many messages wait in each queue that is there; `refusal` is the broker's first, where it refused to tell some."""

    by_queue: Mapping[str, int]
    refusal: ProbeError | None = None


class Line(Protocol):
    """One connection that asks. Every method raises ProbeError; after one that ends the connection `alive` is false."""

    @property
    def alive(self) -> bool: ...

    @property
    def blocked(self) -> bool:
        """Whether the broker takes no messages from it for now. It is kept then: the broker would not even see its end."""
        ...

    @property
    def encrypted(self) -> bool: ...

    @property
    def version(self) -> str:
        """The broker's, empty where it does not tell."""
        ...

    async def ask(self, command: Command, expires_seconds: float) -> int | None:
        """Sends a command to the workers; how many hear it, None where the broker does not tell."""
        ...

    async def answer(self, within_seconds: float) -> Message | None:
        """The next message among the answers; None when none came in time. Raises Rejected for one that is no message."""
        ...

    async def prove(self) -> None:
        """Returns when the broker itself has answered: so that its silence is not taken for the workers'."""
        ...

    async def send_nonce(self, nonce: str) -> None:
        """Sends it where events are heard."""
        ...

    async def listeners(self) -> int | None:
        """How many consume our event queue; None where there is no such thing, or it may not be seen."""
        ...

    async def lengths(self, queues: Sequence[str]) -> Lengths:
        """How many messages wait in the queues; one that does not exist is left out where that can be told."""
        ...

    def abort(self) -> None:
        """Ends it at once."""
        ...


@dataclass(frozen=True, slots=True)
class Heard:
    """One message of the event stream; `again` where the broker may have delivered it before. A `nonce` of ours is none."""

    message: Message | None = None
    again: bool = False
    nonce: str | None = None
    rejection: Rejection | None = None


class Ear(Protocol):
    """One connection that hears events and never publishes: a broker that takes no messages cannot silence it."""

    async def hear(self) -> Sequence[Heard]:
        """The next few, oldest first; waits without end. Raises ProbeError when the connection has ended."""
        ...

    async def settle(self) -> None:
        """Has the broker forget what was heard so far."""
        ...

    async def finish(self) -> None:
        """Returns when the broker has taken note of all that was settled."""
        ...

    def abort(self) -> None:
        """Ends it at once."""
        ...


class Broker(Protocol):
    """Where an application's messages go."""

    async def connect(self, role: str, hold: Hold) -> Line:
        """A new connection that asks; `role` keeps its answers apart from those of others."""
        ...

    async def listen(self, hold: Hold) -> Ear:
        """A new connection that hears every event from now on, or from where the last one of this instance ended."""
        ...

    def translate(self, error: Exception) -> ProbeError | None:
        """As `Probe.translate`, of its driver's exceptions."""
        ...
