"""Connecting to a Unix socket: what a server that accepts nobody does to it."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.drivers import unix
from tests.faults import Listen, black_hole, silent
from tests.servers import nothing_left


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:  # short, as the path of a socket must be: 108 bytes at most (unix(7))
        yield str(Path(folder) / "socket")


async def test_a_full_listen_queue_is_waited_for(path: str) -> None:
    """A frozen server fills up: that is a timeout, not a connection that somebody closed. Cut short it leaves nothing."""
    async with nothing_left(), black_hole(Listen(path)):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await unix.connect(path, asyncio.Protocol)


async def test_it_connects_when_there_is_room(path: str) -> None:
    """The server goes on, and so does who waited."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(path)
        listener.listen(0)
        filler.connect(path)
        task = asyncio.create_task(unix.connect(path, Held))
        done, _ = await asyncio.wait((task,), timeout=0.1)
        assert not done
        listener.accept()[0].close()
        held = await asyncio.wait_for(task, 5)
        assert held.transport.get_extra_info("peername") == path
        held.transport.abort()


class Held(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


async def test_nobody_there_is_an_error_at_once(path: str) -> None:
    """A socket that was never made, and one whose server has gone."""
    async with nothing_left():
        with pytest.raises(FileNotFoundError):
            await unix.connect(path, asyncio.Protocol)
        async with silent(Listen(path)):
            pass
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):  # asyncio removes the socket since Python 3.13
            await unix.connect(path, asyncio.Protocol)
