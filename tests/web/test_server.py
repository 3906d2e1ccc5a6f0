"""Listening and ending."""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from exporter.config import Listen, Web
from exporter.model import Recent
from exporter.web import Lifecycle, Sources
from exporter.web.routes import Surface
from exporter.web.server import Server, start
from tests.web.serving import NO_PAST, NOW, WALL, exposition, snapshot


@asynccontextmanager
async def listening(host: str, port: int = 0, body: bytes | None = None) -> AsyncIterator[Server]:
    """A server there, ended afterwards."""
    sources = Sources(
        snapshot=snapshot,
        metrics=lambda om, probe: body or exposition(om, probe),
        now=lambda: NOW,
        wall=lambda: WALL,
        version="0.1.0",
        web=Web,
        recent=lambda _: Recent((), {}),
        history=lambda _: NO_PAST,
    )
    server = await start(Listen(host, port), Surface(sources, Lifecycle()).application)
    try:
        yield server
    finally:
        await server.aclose()


async def says(host: str, port: int, request: bytes = b"GET /livez HTTP/1.0\r\n\r\n") -> bytes:
    """All that the server answers on a connection of its own."""
    reader, writer = await asyncio.open_connection(host, port)
    with closing(writer):
        writer.write(request)
        return await reader.read()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


BOTH = ("127.0.0.1", "::1") if _has_ipv6() else ("127.0.0.1",)


@pytest.mark.parametrize(
    ("host", "reached", "url"),
    [
        ("", BOTH, "http://127.0.0.1:{port}"),
        ("::", BOTH, "http://127.0.0.1:{port}"),
        ("0.0.0.0", BOTH[:1], "http://127.0.0.1:{port}"),
        ("127.0.0.1", BOTH[:1], "http://127.0.0.1:{port}"),
        ("localhost", BOTH, "http://localhost:{port}"),
        *[(f"[{ip}]", (ip,), "http://[::1]:{port}") for ip in BOTH[1:]],
    ],
)
async def test_each_way_to_write_an_address_is_reached_on_one_port(host: str, reached: tuple[str, ...], url: str) -> None:
    """Port 0 must be one port for both families: it is printed and asked. Where there is no IPv6, IPv4 is served alone."""
    async with listening(host) as server:
        assert server.url == url.format(port=server.port)
        for address in reached:
            assert (await says(address, server.port)).endswith(b"\r\n\r\nok")


async def test_localhost_needs_no_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs must not hang the start."""

    def hanging(*_: object, **__: object) -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    async with listening("localhost") as server:
        assert server.port


async def test_a_taken_port_is_an_oserror() -> None:
    """The command line turns it into one line and exit 2."""
    async with listening("127.0.0.1") as first:
        for host in ("127.0.0.1", "", "localhost"):
            with pytest.raises(OSError, match="in use") as taken:
                async with listening(host, first.port):
                    pass
            assert taken.value.errno == errno.EADDRINUSE


async def test_a_name_that_does_not_resolve_is_an_oserror() -> None:
    """RFC 6761 6.4: `.invalid` never resolves."""
    with pytest.raises(OSError, match=r"resolve nowhere\.invalid"):
        async with listening("nowhere.invalid"):
            pass


async def test_what_is_not_http_leaves_no_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A port scanner would fill the log, and a broken header may hold a token."""
    async with listening("127.0.0.1") as server:
        with caplog.at_level(logging.DEBUG):
            answer = await says("127.0.0.1", server.port, b"GET / HTTP/1.1\r\nAuthorization: Bearer hunter2\x00\r\n\r\n")
            assert answer.startswith(b"HTTP/1.0 400")
            await says("127.0.0.1", server.port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert "Traceback" not in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_header_beyond_the_limit_is_refused() -> None:
    """Memory is not for whoever sends most."""
    async with listening("127.0.0.1") as server:
        answer = await says("127.0.0.1", server.port, b"GET /livez HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 400")


async def test_the_end_is_bounded_whatever_clients_do() -> None:
    """One that never sends its request, one that keeps alive, one that does not read a large answer."""
    opened = []
    async with listening("127.0.0.1", body=b"x" * 20_000_000) as server:
        for request in (b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
            opened.append(writer)
            writer.write(request)
        assert await reader.read(16)  # the large answer has begun
        began = time.monotonic()
    assert time.monotonic() - began < 4
    for writer in opened:
        writer.close()
