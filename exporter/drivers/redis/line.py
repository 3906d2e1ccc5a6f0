"""Opens the way to a server: its name looked up, its addresses tried, TLS where asked for. Knows no command."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from exporter import phase
from exporter.drivers import tcp, unix
from exporter.drivers.dns import Resolver
from exporter.drivers.redis.errors import translated
from exporter.drivers.redis.framing import Framing, Misframed
from exporter.drivers.tls import Tls, client_context
from exporter.errors import ProbeError
from exporter.model import Reason

Hold = Callable[[Callable[[], None]], None]
"""Is given what aborts a connection, as soon as there is one, anew whenever that changes: `Lease.hold`."""

_NO_TLS_TIMEOUT_SECONDS = 86400.0  # asyncio's default of 60 s could come before the deadline


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens; a `host` that begins with `/` is a Unix socket. `tls` None: plain."""

    host: str
    port: int = 6379
    tls: Tls | None = None

    @property
    def is_socket(self) -> bool:
        return self.host.startswith("/")

    @property
    def place(self) -> str:
        """For messages: `host:port`, or the path of the socket."""
        if self.is_socket:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Line(asyncio.StreamReaderProtocol):
    """A connection of which only whole replies come out; mutable: it ends."""

    def __init__(self, place: str) -> None:
        self.reader = asyncio.StreamReader()
        super().__init__(self.reader)
        self._place = place
        self._framing = Framing()
        self._carrier: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """What carries it: the socket, or TLS on top of it."""
        if self._carrier is None:
            raise ConnectionResetError
        return self._carrier

    @property
    def answers(self) -> int:
        """Whole replies that have come so far; messages pushed to a subscriber under RESP3 are none."""
        return self._framing.answers

    @property
    def is_open(self) -> bool:
        return self._carrier is not None and not self._carrier.is_closing() and not self.reader.at_eof()

    @property
    def encrypted(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    def writer(self) -> asyncio.StreamWriter:
        return asyncio.StreamWriter(self.transport, self, self.reader, asyncio.get_running_loop())

    def abort(self) -> None:
        """Ends the connection at once, without a word to the server."""
        if self._carrier is not None:
            self._carrier.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # what every stream connection of asyncio has
        self._carrier = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.reader.exception() is not None:
            return
        try:
            whole = self._framing.whole(data)
        except Misframed as error:
            what = f"talk to {self._place}: not the Redis protocol: {error}"
            self.reader.set_exception(ProbeError(Reason.PROTOCOL, what))
            self.abort()
        else:
            if whole:
                super().data_received(whole)


async def open_line(endpoint: Endpoint, resolver: Resolver, hold: Hold) -> Line:
    """A connection on which nothing was said yet but the TLS handshake.

    Raises:
        ProbeError: it cannot be reached, its name does not resolve, or TLS fails.
    """
    where = f"connect {endpoint.place}"
    if endpoint.is_socket:
        with phase.waiting(where), translated(where):
            line = await unix.connect(endpoint.host, lambda: Line(endpoint.place))
    else:
        context = client_context(endpoint.tls) if endpoint.tls is not None else None  # its files may be missing: first
        addresses = await resolver.resolve(endpoint.host)
        with phase.waiting(where), translated(where):
            sock = await tcp.connect(addresses, endpoint.port)
        hold(lambda: _shut_down(sock))
        line = await _begin(endpoint, context, sock)
    hold(line.abort)
    return line


async def _begin(endpoint: Endpoint, context: ssl.SSLContext | None, sock: socket.socket) -> Line:
    where = f"connect {endpoint.place}" if context is None else f"TLS with {endpoint.place}"
    name = endpoint.tls.server_name if endpoint.tls is not None else None
    try:
        with phase.waiting(where), translated(where):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, line = await asyncio.get_running_loop().create_connection(
                lambda: Line(endpoint.place),
                sock=sock,
                ssl=context,
                server_hostname=None if context is None else name or endpoint.host,
                ssl_handshake_timeout=None if context is None else _NO_TLS_TIMEOUT_SECONDS,
            )
    except BaseException:
        sock.close()
        raise
    return line


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # not close: the loop still watches the descriptor
