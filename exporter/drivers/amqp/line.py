"""Opens the way to a broker: its name looked up, its addresses tried, TLS where it is asked for. Knows no aiormq."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

from exporter import phase
from exporter.drivers import tcp
from exporter.drivers.amqp.errors import translated
from exporter.drivers.amqp.framing import Frames
from exporter.drivers.dns import Resolver
from exporter.drivers.tls import Tls, client_context
from exporter.errors import ProbeError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker listens; without `tls` it is spoken to in plain."""

    host: str
    port: int
    tls: Tls | None = None

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def verified_name(self) -> str:
        """The name that the broker's certificate must have."""
        return self.tls.server_name or self.host if self.tls is not None else self.host


class Line(asyncio.StreamReaderProtocol):
    """One connection to a broker, as streams that see whole frames only; mutable: it follows the connection for its life."""

    def __init__(self, place: str) -> None:
        self.reader = asyncio.StreamReader()
        super().__init__(self.reader)
        self.frames = Frames(place)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line: asyncio.Transport | None = None
        self._on_blocked: set[Callable[[], None]] = set()

    @property
    def transport(self) -> asyncio.Transport:
        """What carries it: the socket, or TLS on top of it."""
        if self._line is None:
            raise ConnectionResetError
        return self._line

    @property
    def writer(self) -> asyncio.StreamWriter:
        return asyncio.StreamWriter(self.transport, self, self.reader, asyncio.get_running_loop())

    def abort(self) -> None:
        """Ends it at once, without waiting."""
        if self._line is not None:
            self._line.abort()

    @contextmanager
    def telling(self, on_blocked: Callable[[], None]) -> Iterator[None]:
        """Calls it when the broker says, inside the block, that it takes no messages."""
        self._on_blocked.add(on_blocked)
        try:
            yield
        finally:
            self._on_blocked.discard(on_blocked)

    # --- what the transport calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line = cast("asyncio.Transport", transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.frames.garbled is not None:
            return
        try:
            whole = self.frames.feed(data)
        except ProbeError as error:
            self.reader.set_exception(error)
            self.abort()
            return
        if whole:
            super().data_received(whole)
        if self.frames.blocked is not None:
            for tell in tuple(self._on_blocked):
                tell()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.ended.done():
            self.ended.set_result(None)


async def open_line(endpoint: Endpoint, resolver: Resolver, hold: Callable[[Callable[[], None]], None]) -> Line:
    """A connection on which nothing was said yet but the TLS handshake; `hold` is given what aborts it.

    Raises:
        ProbeError: it cannot be reached, its name does not resolve, or TLS cannot be had.
    """
    place = endpoint.place
    context = client_context(endpoint.tls) if endpoint.tls is not None else None
    addresses = await resolver.resolve(endpoint.host)
    with phase.waiting(f"connect {place}"), translated(f"connect {place}"):
        sock = await tcp.connect(addresses, endpoint.port)
    hold(lambda: _end(sock))
    where = f"TLS with {place}" if context is not None else f"connect {place}"
    with phase.waiting(where), translated(where):
        _, line = await asyncio.get_running_loop().create_connection(
            lambda: Line(place), sock=sock, ssl=context, server_hostname=endpoint.verified_name if context is not None else None
        )
    return line


def _end(sock: socket.socket) -> None:
    """Makes whoever uses the socket see its end at once; the descriptor stays its owner's to close."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
