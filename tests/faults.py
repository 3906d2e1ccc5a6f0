"""Peers that misbehave, each an async context manager, and names that never resolve.

They listen on a free loopback port, which they yield, or where `at` says: `silent(Listen(path=…))`.

async with silent() as port: …             accepts and never answers
async with black_hole() as port: …         a connect hangs: its SYN is dropped
async with resetting() as port: …          accepts and resets
async with saying(TEN_ZEROS) as port: …    sends bytes at once, then nothing
async with saying_over_tls(TEN_ZEROS, authority) as port: …
async with dripping(b"…", seconds) as port: …
async with Proxy(port) as proxy: …         passes on to a real server until told otherwise; a path instead is a Unix socket
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import trustme

from exporter.demo.servers import HOST

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TEN_ZEROS = bytes(10)
"""What spins asyncpg's parser for ever when a server sends it after the startup message."""

_CHUNK_BYTES = 65536


@dataclass(frozen=True)
class Listen:
    """Where a peer listens: on a free loopback port, or on the Unix socket `path`; with `tls` it speaks that from the start."""

    path: str = ""
    tls: ssl.SSLContext | None = None


PORT = Listen()


def garbage(seed: int, length: int = 200) -> bytes:
    """Random bytes, the same for the same seed."""
    return Random(seed).randbytes(length)


@asynccontextmanager
async def peer(behave: Behaviour, at: Listen = PORT) -> AsyncIterator[int]:
    """A server whose every connection is one run of `behave`; all are aborted at the end of the block. On a path its port is 0."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the end of the block
                await behave(reader, writer)
        finally:
            tasks.discard(task)
            writer.transport.abort()

    if at.path:
        server = await asyncio.start_unix_server(serve, at.path, ssl=at.tls)
    else:
        server = await asyncio.start_server(serve, HOST, 0, ssl=at.tls)
    try:
        yield 0 if at.path else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while tasks:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def silent(at: Listen = PORT) -> AbstractAsyncContextManager[int]:
    """Accepts, reads, and never answers."""
    return peer(_swallow, at)


async def _swallow(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(_CHUNK_BYTES):
        pass
    await asyncio.Event().wait()


@asynccontextmanager
async def black_hole(at: Listen = PORT) -> AsyncIterator[int]:
    """Connecting hangs, before any TLS: the queue of a listener that never accepts is full (listen(2)).

    The kernel drops each further SYN; on a Unix socket it says "try again" (EAGAIN, unix(7)).
    """
    family, address = (socket.AF_UNIX, at.path) if at.path else (socket.AF_INET, (HOST, 0))
    with ExitStack() as held:
        listener = held.enter_context(socket.socket(family))
        listener.bind(address)
        listener.listen(0)
        for _ in range(3):
            filler = held.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield 0 if at.path else listener.getsockname()[1]


def resetting(at: Listen = PORT, *, after: int = 0) -> AbstractAsyncContextManager[int]:
    """Answers the first `after` bytes it reads, or the connection itself, with RST."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(after)
        _reset(writer)

    return peer(behave, at)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    # Linger for zero seconds: close sends RST (socket(7))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def saying(data: bytes, at: Listen = PORT) -> AbstractAsyncContextManager[int]:
    """Sends `data` as soon as it has been spoken to, then stays open and silent."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        await _swallow(reader, writer)

    return peer(behave, at)


def echoing() -> AbstractAsyncContextManager[int]:
    """Sends back whatever it is sent: the surest way to make a peer say a secret."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    return peer(behave)


def dripping(data: bytes, seconds: float) -> AbstractAsyncContextManager[int]:
    """Sends one byte of `data` every so many seconds once it has been spoken to."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(seconds)
        await _swallow(reader, writer)

    return peer(behave)


def saying_over_tls(data: bytes, authority: trustme.CA, *, postgres: bool = True) -> AbstractAsyncContextManager[int]:
    """Completes TLS with a certificate for 127.0.0.1 and localhost, then does as `saying`.

    With `postgres` TLS begins after an SSLRequest that is answered `S` (PostgreSQL manual, "SSL Session Encryption").
    """
    context = server_tls(authority)

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if postgres:
            await reader.readexactly(8)
            writer.write(b"S")
        await writer.start_tls(context)
        await reader.read(1)
        writer.write(data)
        await _swallow(reader, writer)

    return peer(behave)


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's context with a fresh certificate for `names`, by default 127.0.0.1 and localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or (HOST, "localhost"))).configure_cert(context)
    return context


class Proxy:
    """Passes bytes on to a loopback port, or to the Unix socket of a path, until told otherwise; mutable.

    `port` is where to connect, 0 on a path of its own. What is stalled keeps its connections open and loses nothing: `resume`
    lets it flow.
    """

    def __init__(self, target: int | str, path: str = "") -> None:
        self._target = target
        self._peer = peer(self._serve, Listen(path))
        self._links: list[_Link] = []
        self._stalled = False
        self.port = 0

    async def __aenter__(self) -> Self:
        self.port = await self._peer.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._peer.__aexit__(kind, error, trace)

    @property
    def connections(self) -> int:
        """Connections that are open, silenced ones included."""
        return len(self._links)

    def stall(self) -> None:
        """Nothing flows any more, on old and new connections; connecting still works."""
        self._stalled = True
        for link in self._links:
            link.flowing.clear()

    def resume(self) -> None:
        """Everything flows again, but for connections that were half-opened."""
        self._stalled = False
        for link in self._links:
            if not link.lost:
                link.flowing.set()

    def half_open(self) -> None:
        """The connections of now stay silent for good, as after a lost firewall state; new ones work."""
        for link in self._links:
            link.lost = True
            link.flowing.clear()

    def reset(self) -> None:
        """Resets every open connection, on both sides; new ones work."""
        for link in list(self._links):
            _reset(link.client)
            _reset(link.server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await self._connect()
        link = _Link(writer, server_writer)
        if not self._stalled:
            link.flowing.set()
        self._links.append(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(link.pump(reader, server_writer))
                pumps.create_task(link.pump(server_reader, writer))
        except* OSError:
            pass  # one side was reset: so is the other, below
        finally:
            self._links.remove(link)
            server_writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(HOST, self._target)


class _Link:
    """One proxied connection; mutable."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.flowing = asyncio.Event()
        self.lost = False

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self.flowing.wait()
            writer.write(data)
            await writer.drain()
        await self.flowing.wait()
        writer.write_eof()


_HANGING = '''\
"""Makes the lookup of some names hang, as a resolver does that never answers."""

import socket
import time

_real = socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    if host in {names!r}:
        time.sleep({seconds!r})
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _real(host, *arguments, **options)


socket.getaddrinfo = getaddrinfo
'''


def hanging_names(folder: Path, *names: str, seconds: float = 3600.0) -> dict[str, str]:
    """Environment for a Python child in which looking up any of `names` blocks for so long: a sitecustomize in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_HANGING.format(names=names, seconds=seconds))
    return {"PYTHONPATH": str(folder)}
