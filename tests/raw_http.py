"""HTTP by the byte: a client that sends what no client library would, and reads what comes back. Knows no path."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from exporter.demo.servers import HOST

READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `headers` have lower-case names."""

    code: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError where the server has ended it."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """The next answer; `bodiless` after HEAD. Raises IncompleteReadError or ConnectionError where none comes."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = 0 if bodiless else int(headers.get("content-length", 0))
        return Reply(int(first.split(" ")[1]), headers, await self.reader.readexactly(size))

    async def rest(self) -> bytes:
        """All that comes until the server ends it, however it does."""
        out = b""
        with suppress(ConnectionError):
            while chunk := await self.reader.read(READ_BYTES):
                out += chunk
        return out


@asynccontextmanager
async def wire(port: int, receive_bytes: int = 0) -> AsyncIterator[Wire]:
    """A connection to that port of this machine, ended without a word; `receive_bytes` is SO_RCVBUF, 0 the kernel's own."""
    narrow = socket.socket(proto=socket.IPPROTO_TCP)  # named, so that asyncio turns Nagle off
    if receive_bytes:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)  # before connecting: it decides the window
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, (HOST, port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=READ_BYTES)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def says(port: int, request: bytes, *, half_closed: bool = False) -> bytes:
    """All that the server answers to this, on a connection of its own. `half_closed`: the client's side ends with the request."""
    async with wire(port) as connection:
        with suppress(OSError):  # it may have ended before
            await connection.send(request)
            if half_closed:
                connection.writer.write_eof()
        return await connection.rest()
