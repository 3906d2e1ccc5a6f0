"""The misbehaving peers misbehave as they say: other tests build on it."""

import asyncio
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from exporter.demo.servers import HOST, Postgres
from tests.faults import TEN_ZEROS, Proxy, black_hole, dripping, garbage, hanging_names, resetting, saying, saying_over_tls, silent
from tests.servers import closed_port, eventually, fetch, nothing_left

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


async def _hangs(work: Callable[[], object], seconds: float = 0.2) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await work()  # type: ignore[misc]
    except TimeoutError:
        return True
    return False


async def test_silent_accepts_and_never_answers() -> None:
    """A server that hangs after accept is what an overloaded one looks like."""
    async with nothing_left(), silent() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"hello")
        assert await _hangs(lambda: reader.read(1))
        writer.close()


async def test_a_black_hole_lets_no_connect_through() -> None:
    """A firewall that drops packets: connect itself must have a deadline."""
    async with nothing_left(), black_hole() as port:
        assert await _hangs(lambda: asyncio.open_connection(HOST, port))


async def test_resetting_resets() -> None:
    """ECONNRESET, not a clean end of the stream."""
    async with nothing_left(), resetting(after=1) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


async def test_saying_sends_exactly_its_bytes() -> None:
    """Garbage is the same for the same seed, so that a failure can be run again."""
    data = TEN_ZEROS + garbage(3)
    assert data == TEN_ZEROS + garbage(3) != TEN_ZEROS + garbage(4)
    async with nothing_left(), saying(data) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"x")
        assert await reader.readexactly(len(data)) == data
        assert await _hangs(lambda: reader.read(1))
        writer.close()


async def test_saying_over_tls_completes_tls_first() -> None:
    """The garbage must arrive inside a verified session, where a guard on the plain path would not see it."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with nothing_left(), saying_over_tls(TEN_ZEROS, authority) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(SSL_REQUEST)
        assert await reader.readexactly(1) == b"S"
        await writer.start_tls(context, server_hostname=HOST)
        writer.write(b"x")
        assert await reader.readexactly(10) == TEN_ZEROS
        writer.transport.abort()


async def test_dripping_takes_its_time() -> None:
    """Each byte resets a naive timeout, so only a deadline over all of it ends the wait."""
    async with nothing_left(), dripping(b"abc", 0.1) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        began = time.monotonic()
        writer.write(b"x")
        assert await reader.readexactly(3) == b"abc"
        assert time.monotonic() - began >= 0.2
        writer.close()


async def test_a_closed_port_refuses() -> None:
    """Refused must mean refused: no other server may take the port while the test runs."""
    with closed_port() as port, pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)


async def test_a_proxy_passes_a_real_server_through(postgres_server: Postgres) -> None:
    """The stall tests are about PostgreSQL, so its protocol has to survive the way."""
    async with nothing_left(), Proxy(postgres_server.port) as proxy:
        through = postgres_server.url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        assert await fetch(through, "SELECT 1") == [(1,)]


async def test_a_stalled_proxy_resumes_where_it_was() -> None:
    """A pause loses nothing."""
    async with nothing_left(), saying(b"answer") as target, Proxy(target) as proxy:
        proxy.stall()
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writer.write(b"x")
        assert await _hangs(lambda: reader.read(6))
        proxy.resume()
        assert await asyncio.wait_for(reader.readexactly(6), 5) == b"answer"
        writer.close()


async def test_half_open_silences_old_connections_only() -> None:
    """A lost firewall state: what is open stays silent for good, what is new works."""
    async with nothing_left(), saying(b"answer") as target, Proxy(target) as proxy:
        old, old_writer = await asyncio.open_connection(HOST, proxy.port)
        await eventually(lambda: proxy.connections == 1, 5)
        proxy.half_open()
        proxy.resume()
        old_writer.write(b"x")
        new, new_writer = await asyncio.open_connection(HOST, proxy.port)
        new_writer.write(b"x")
        assert await asyncio.wait_for(new.readexactly(6), 5) == b"answer"
        assert await _hangs(lambda: old.read(6))
        old_writer.close()
        new_writer.close()


async def test_a_proxy_can_reset_what_is_open() -> None:
    """As a load balancer does when it restarts."""
    async with nothing_left(), silent() as target, Proxy(target) as proxy:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        await eventually(lambda: proxy.connections == 1, 5)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        await eventually(lambda: proxy.connections == 0, 5)
        writer.close()


_LOOKUP = "import socket; print(socket.getaddrinfo('127.0.0.1', 80)[0][4][0]); print(socket.getaddrinfo('stuck.invalid', 80))"


def test_hanging_names_hang_in_a_child_alone(tmp_path: Path) -> None:
    """Only the named ones, only there: the test's own lookups go on."""
    environment = hanging_names(tmp_path, "stuck.invalid")
    child = [sys.executable, "-u", "-c", _LOOKUP]
    with pytest.raises(subprocess.TimeoutExpired) as hung:
        subprocess.run(child, env=environment, timeout=1.5, capture_output=True)
    assert hung.value.stdout == b"127.0.0.1\n"
    assert socket.getaddrinfo(HOST, 80)
