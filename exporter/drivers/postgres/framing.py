"""Lets only well-framed bytes through to asyncpg's parser, and carries the question whether the server speaks TLS.

asyncpg 0.32 spins for ever, with the whole event loop, on a message whose type it does not know (ten zero bytes do it), so
everything from the server is checked here first. Knows no SQL, no session and no settings.
Message formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import asyncio
import re
import ssl
import struct
from typing import cast

import asyncpg

from exporter.drivers.postgres.errors import STUMBLES
from exporter.errors import ProbeError
from exporter.model import Reason

ANSWER_BYTES = 16 * 1024 * 1024
"""The most bytes of one answer, that is up to the next ReadyForQuery: a mistaken SELECT must not fill our memory."""
GREETING_BYTES = 64 * 1024
"""The most bytes from the server up to the end of the login."""
SCRAM_ITERATIONS = 1_000_000
"""The most key stretching a server may ask of us (PostgreSQL's default is 4096): it runs on the event loop, 0.4 s for so many."""

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_HEADER = struct.Struct("!BI")
_READY = ord("Z")
_ROW = ord("D")
_AUTHENTICATION = ord("R")
_SASL_CONTINUE = b"\x00\x00\x00\x0b"
_ITERATIONS = re.compile(rb",i=(\d+)")
# what a server may send before the login is through, and after; COPY and function calls are never asked for
_GREETING = frozenset(b"RKSZENv")
_SESSION = frozenset(b"SZENATDCI123tns")


class Framing(asyncio.Protocol):
    """Stands between a transport and asyncpg's protocol; mutable: it follows one connection for its life.

    `place` is `host:port`, for messages. Until `attach` nothing but the answer to the TLS question may come.
    """

    def __init__(self, place: str) -> None:
        self._transport: asyncio.Transport | None = None
        self.error: ProbeError | None = None
        self._place = place
        self._inner: asyncio.Protocol | None = None
        self._tls: asyncio.Future[bytes] | None = None
        self._closed = False
        self._known = _GREETING
        self._held = bytearray()
        self._missing = 0  # bytes until the held message is whole, as far as is known
        self._answer = 0

    # --- before asyncpg: TLS or not -----------------------------------------------------------------------------------

    async def offers_tls(self) -> bool:
        """Asks the server whether it goes on in TLS; if so, the next thing on the wire must be the handshake.

        Raises:
            ProbeError: reason protocol; it answers something else, or more than one byte (which could be forged).
            ConnectionError: it closes the connection.
        """
        self._tls = asyncio.get_running_loop().create_future()
        self.transport.write(_SSL_REQUEST)
        answer = await self._tls
        self._tls = None
        if answer not in (b"S", b"N"):
            raise ProbeError(Reason.PROTOCOL, f"connect {self._place}: no PostgreSQL answer to the request for TLS")
        return answer == b"S"

    @property
    def transport(self) -> asyncio.Transport:
        """What carries it now: the socket, or TLS on top of it."""
        if self._transport is None:
            raise ConnectionResetError
        return self._transport

    @property
    def encrypted(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Goes on in TLS; `name` is sent as SNI, and verified where the context says so. Raises ssl.SSLError, ConnectionError."""
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(self.transport, self, context, server_hostname=name)
        if secured is None:
            raise ConnectionResetError
        self._transport = secured

    def attach(self, inner: asyncio.Protocol) -> None:
        """Hands what comes from now on to `inner`.

        Raises:
            ProbeError, ConnectionError: the connection has ended meanwhile.
        """
        if self.error is not None:
            raise self.error
        if self._closed:
            raise ConnectionResetError
        self._inner = inner
        inner.connection_made(self.transport)

    def abort(self) -> None:
        """Ends the connection at once, without a word to the server."""
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        try:
            if self._inner is None:
                self._before(data)
            elif whole := self._whole(data):
                self._inner.data_received(whole)
        except ProbeError as error:
            self._end(error)
        except (asyncpg.InterfaceError, *STUMBLES) as error:
            self._end(self._garbled("a message cannot be read"), error)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._tls is not None and not self._tls.done():
            self._tls.set_exception(exc or ConnectionResetError())
        if self._inner is not None:
            self._inner.connection_lost(exc)

    # --- the check itself ---------------------------------------------------------------------------------------------

    def _before(self, data: bytes) -> None:
        if self._tls is None or self._tls.done():
            raise self._garbled("it spoke before it was asked")
        self.transport.pause_reading()  # what comes now belongs to the handshake; start_tls reads on
        self._tls.set_result(data)
        if data != b"S":
            self.transport.resume_reading()

    def _whole(self, data: bytes) -> bytes:
        """The whole messages there are by now; holds back the rest."""
        self._answer += len(data)
        if self._answer > (GREETING_BYTES if self._known is _GREETING else ANSWER_BYTES):
            raise self._too_much()
        if len(data) < self._missing:
            self._held += data
            self._missing -= len(data)
            return b""
        if self._held:
            data = bytes(self._held + data)
            self._held.clear()
        end = self._walk(data)
        if end == len(data):
            return data
        self._held += data[end:]
        return data[:end]

    def _walk(self, data: bytes) -> int:
        """Where the last whole message ends; sets what is missing of the next one."""
        position, size = 0, len(data)
        while size - position >= _HEADER.size:
            kind, length = _HEADER.unpack_from(data, position)
            if kind == _ROW and self._known is _SESSION and length > ANSWER_BYTES:
                raise self._too_much()
            if kind not in self._known or not 4 <= length <= ANSWER_BYTES:
                raise self._garbled("a message of unknown type or impossible length")
            end = position + 1 + length
            if end > size:
                self._missing = end - size
                return position
            if kind == _READY:
                self._known, self._answer = _SESSION, size - end
            elif kind == _AUTHENTICATION:
                self._look_at_scram(data[position + 5 : end])
            position = end
        rest = size - position
        if rest and data[position] not in self._known:
            raise self._garbled("a message of unknown type")
        self._missing = _HEADER.size - rest if rest else 0
        return position

    def _look_at_scram(self, body: bytes) -> None:
        asked = _ITERATIONS.search(body) if body.startswith(_SASL_CONTINUE) else None
        if asked is not None and (len(asked[1]) > 9 or int(asked[1]) > SCRAM_ITERATIONS):
            raise self._garbled(f"it asks for more than {SCRAM_ITERATIONS} SCRAM iterations")

    def _garbled(self, what: str) -> ProbeError:
        return ProbeError(Reason.PROTOCOL, f"connect {self._place}: not the PostgreSQL protocol: {what}")

    def _too_much(self) -> ProbeError:
        if self._known is _GREETING:
            return self._garbled("a login without end")
        size = ANSWER_BYTES // (1024 * 1024)
        return ProbeError(Reason.CONFIG, f"an answer above {size} MiB; select only the rows and columns that become metrics")

    def _end(self, error: ProbeError, cause: Exception | None = None) -> None:
        error.__cause__ = cause
        self._closed = True
        self.error = error
        self.abort()
        if self._tls is not None and not self._tls.done():
            self._tls.set_exception(error)
        if self._inner is not None:
            self._inner.connection_lost(error)  # asyncpg makes it the cause of what its caller sees
