"""Opening a TCP connection to a host with several addresses."""

import asyncio
import errno
import socket
import time

import pytest

from exporter.demo.servers import HOST
from exporter.drivers import tcp
from exporter.drivers.dns import Address
from tests.faults import black_hole
from tests.servers import closed_port, nothing_left

IPV4 = Address(socket.AF_INET, HOST)
IPV6 = Address(socket.AF_INET6, "::1")
NOWHERE = Address(socket.AF_INET, "127.255.255.255")
"""A broadcast address: the kernel answers a TCP connect with ENETUNREACH and sends nothing."""


async def _accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_the_next_address_is_tried_at_once_after_a_failure() -> None:
    """`localhost` often stands for ::1 first, where nobody listens."""
    async with nothing_left(), await asyncio.start_server(_accept, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        started = time.monotonic()
        sock = await tcp.connect((IPV6, NOWHERE, IPV4), port)
        with sock:
            assert sock.getpeername() == (HOST, port)
            assert not sock.getblocking()
        assert time.monotonic() - started < tcp.STAGGER_SECONDS


async def test_an_address_that_leads_nowhere_does_not_hold_up_the_other() -> None:
    """A host with an IPv6 address behind a firewall that drops is up, as every browser shows."""
    async with nothing_left(), black_hole() as port:
        async with await asyncio.start_server(_accept, "::1", port):
            started = time.monotonic()
            with await tcp.connect((IPV4, Address(socket.AF_INET, "127.0.0.1"), IPV6), port) as sock:
                assert sock.family == socket.AF_INET6
            assert tcp.STAGGER_SECONDS <= time.monotonic() - started < 2 * tcp.STAGGER_SECONDS + 0.2


async def test_a_refusal_tells_more_than_a_missing_route() -> None:
    """A server that is down must read `refused` although IPv6 has no route."""
    with closed_port() as port:
        with pytest.raises(ConnectionRefusedError):
            await tcp.connect((NOWHERE, IPV4), port)


async def test_without_a_route() -> None:
    """The first failure stands when all are alike."""
    with pytest.raises(OSError, check=lambda error: error.errno == errno.ENETUNREACH):
        await tcp.connect((NOWHERE,), 9)


async def test_a_cancel_leaves_no_socket() -> None:
    """Neither of the attempts that are under way nor of one that has just succeeded."""
    async with nothing_left(within=1), black_hole() as port:
        task = asyncio.create_task(tcp.connect((IPV4, Address(socket.AF_INET, "127.0.0.1")), port))
        await asyncio.wait([task], timeout=1.5 * tcp.STAGGER_SECONDS)
        task.cancel()
        await asyncio.wait([task], timeout=1)
        assert task.cancelled()


async def test_a_scoped_address_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio would do so in its executor, whose threads are joined at the end."""

    def look_up(*_args: object, **_options: object) -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with closed_port() as port, pytest.raises(OSError):  # noqa: PT011 - which one depends on the machine's interfaces
        await tcp.connect((Address(socket.AF_INET6, "fe80::1%lo"),), port)
