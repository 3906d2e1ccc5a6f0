"""Opens a connection to a Unix socket. Knows no protocol on it."""

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

P = TypeVar("P", bound=asyncio.BaseProtocol)

AGAIN_SECONDS = 0.05
"""How long to wait before a full listen queue is tried again: nothing tells when it has room."""


async def connect(path: str, protocol: Callable[[], P]) -> P:
    """A connection that `protocol()` serves; waits without end for a server that accepts nobody, as a frozen one.

    Raises:
        OSError: there is no socket, nobody listens on it, or it may not be opened.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        await _connect(sock, path)
        _, serving = await asyncio.get_running_loop().create_unix_connection(protocol, sock=sock)
    except BaseException:
        sock.close()
        raise
    return serving


async def _connect(sock: socket.socket, path: str) -> None:
    """Not by asyncio, which takes EAGAIN for a connection that is under way: unix(7) says it at once of a full listen queue."""
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            await asyncio.sleep(AGAIN_SECONDS)
