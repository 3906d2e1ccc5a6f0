"""What one client may do to its connection, and how it ends. In here is every method of aiohttp's that we answer instead of it."""

import asyncio
import gc
import gzip
import logging
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import pytest

from exporter.web import connection as limits
from exporter.web import server
from exporter.web.connection import Connection
from tests.conftest import Count
from tests.malformed import CASES, MARK
from tests.raw_http import Wire, says, wire
from tests.servers import eventually, nothing_left
from tests.web.serving import DB, Stand, serving

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
NARROW_BYTES = 4096
LARGE = b"x" * 400_000
"""More than the kernel takes for a client that does not read, where both sides have narrow buffers."""


def counted(stand: Stand) -> dict[tuple[str, ...], object]:
    return dict(stand.surface.tally.families()[0].rows)


async def test_what_is_no_request_gets_our_own_answer_and_none_of_it_back(caplog: pytest.LogCaptureFixture, count: Count) -> None:
    """aiohttp would say its name, Python's version and the line it was sent, and log it: that may be a token."""
    caplog.set_level(logging.DEBUG)
    wrong = []
    async with serving(DB) as stand, nothing_left():
        for case in CASES:
            answer = await says(stand.port, case.request)
            head = answer.partition(b"\r\n\r\n")[0].lower()
            code = int(answer.split(b" ", 2)[1])
            if code not in case.codes or b"\r\nserver: sidecar-exporter" not in head or b"x-injected" in head or MARK in answer:
                wrong.append((case.name, answer))
        assert int(str(counted(stand)["other", "other", "400"])) > 20
    count("attacks withstood", len(CASES) - len(wrong), len(CASES))
    assert wrong == []
    assert [record for record in caplog.records if MARK.decode() in record.getMessage() or record.levelno > logging.INFO] == []


@pytest.mark.parametrize("verb", [b"FOO", b"DESCRIBE", b"get", b"X-FOO!"])
async def test_a_verb_of_no_standard_is_told_which_there_are(verb: bytes) -> None:
    """405 as for any other wrong verb, although the parser does not get as far as the path."""
    async with serving(DB) as stand:
        answer = await says(stand.port, verb + b" /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.split(b"\r\n")[0].endswith(b" 405 Method Not Allowed")
        assert b"\r\nAllow: GET, HEAD, POST\r\n" in answer
        assert counted(stand)["other", "other", "405"] == 1


async def test_a_bug_of_ours_around_the_routes_is_a_plain_500(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The routes catch their own; what is left must not show a traceback either."""
    async with serving(DB) as stand:
        monkeypatch.setattr(stand.surface, "_answer", lambda *_: 1 / 0)
        answer = await says(stand.port, LIVEZ)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert answer.endswith(b"\r\n\r\ninternal error; the log says more\n")
        assert counted(stand)["other", "other", "500"] == 1
    assert "request was not answered" in caplog.text


@pytest.mark.parametrize("requests", [1, 3, 100])
async def test_a_client_that_ends_its_side_is_answered(requests: int) -> None:
    """`printf … | nc -N`, and every script that shuts its side down once it has asked. aiohttp queues 32 at a time."""
    async with serving(DB) as stand, asyncio.timeout(5):
        answer = await says(stand.port, LIVEZ * requests, half_closed=True)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == answer.count(b"\r\n\r\nok") == requests
        assert await says(stand.port, b"GET /livez HTTP/1.0\r\n\r\n", half_closed=True)


@pytest.mark.parametrize("request_", [b"", b"GET /liv", b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"])
async def test_a_client_that_ends_its_side_too_early_is_let_go(request_: bytes) -> None:
    """Its connection must not wait for what cannot come."""
    async with serving(DB) as stand, nothing_left(), asyncio.timeout(5):
        answer = await says(stand.port, request_, half_closed=True)
        assert (b" 403 " in answer) == request_.startswith(b"POST")


async def test_answers_come_in_the_order_of_the_questions() -> None:
    """RFC 9112 9.3.2, however many come in one packet."""
    paths = [b"/livez", b"/nothing", b"/health.txt", b"/metrics"] * 25
    async with serving(DB) as stand, wire(stand.port) as client:
        await client.send(b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths))
        assert [(await client.reply()).code for _ in paths] == [200, 404, 200, 200] * 25


async def test_a_head_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 128 lines of 8190 bytes, a few hundred clients would fill the memory without ever having asked."""
    monkeypatch.setattr(limits, "MOST_HEAD_BYTES", 1000)
    async with serving(DB) as stand, wire(stand.port) as client:
        await client.send(LIVEZ * 200)  # what is complete is no matter, nor what becomes so
        assert {(await client.reply()).code for _ in range(200)} == {200}
        for _ in range(100):
            await client.send(LIVEZ[:20])
            for _ in range(3):
                await asyncio.sleep(0)  # turns of the loop that it shares with the server
            await client.send(LIVEZ[20:])
            assert (await client.reply()).code == 200
        await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        for number in range(40):
            await client.send(b"X%d: some twenty bytes more\r\n" % number)
        assert (await client.rest()).startswith(b"HTTP/1.0 400 ")


async def test_bytes_that_trickle_in_do_not_hold_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has KEEPALIVE_SECONDS for the whole request, and not for the next byte."""
    monkeypatch.setattr(limits, "KEEPALIVE_SECONDS", 0.5)
    async with serving(DB) as stand, wire(stand.port) as client, asyncio.timeout(10):
        began = time.monotonic()
        await client.send(b"GET /livez HTTP/1.1\r\nX: ")
        with suppress(ConnectionError):
            for _ in range(100):
                await client.send(b"a")
                await asyncio.sleep(0.05)
        assert await client.rest() == b""
        assert 0.4 < time.monotonic() - began < 5


async def test_a_body_that_swells_is_not_unpacked() -> None:
    """A megabyte can be a gigabyte of zeros; nobody here reads a body."""
    bomb = gzip.compress(bytes(2**28))
    head = b"POST /-/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    async with serving(DB) as stand:
        began = time.process_time()
        answer = await says(stand.port, head % len(bomb) + bomb)
        assert b" 403 " in answer
        assert time.process_time() - began < 0.1


# --- clients that do not read -------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server sends hardly fits the kernel, so it is known to wait in the process."""
    socket_of = server._socket

    def narrowed(ip: str, port: int) -> socket.socket:
        listening = socket_of(ip, port)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW_BYTES)  # accepted ones inherit it
        return listening

    monkeypatch.setattr(server, "_socket", narrowed)


async def asks_and_does_not_read(stand: Stand, stack: AsyncExitStack, request: bytes = METRICS) -> Wire:
    """A client that has been given as much of a large answer as fits on the way, and takes no more."""
    client = await stack.enter_async_context(wire(stand.port, NARROW_BYTES))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    before = counted(stand)["metrics", "GET", "200"]
    await client.send(request)
    await eventually(lambda: counted(stand)["metrics", "GET", "200"] != before, 5)
    return client


async def is_whole(client: Wire) -> bool:
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        return bool((await client.reply()).body)
    return False


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("size", [40_000, 400_000])
async def test_an_answer_that_is_not_read_is_dropped_in_time(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Its body is kept for it. 40 kB are below what asyncio waits for, and it would wait as long as the client lives."""
    monkeypatch.setattr(limits, "UNREAD_SECONDS", 0.5)
    last = METRICS.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with serving(DB, metrics=lambda *_: LARGE[:size]) as stand, AsyncExitStack() as stack:
        deaf = await asks_and_does_not_read(stand, stack, last)
        keen = await stack.enter_async_context(wire(stand.port))
        for _ in range(3):
            await keen.send(METRICS)
            assert len((await keen.reply()).body) == size
            await asyncio.sleep(0.3)
        assert not await is_whole(deaf)


@pytest.mark.usefixtures("narrow")
async def test_of_too_much_that_is_not_read_the_oldest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundred clients that do not read would otherwise be some hundred times the largest body."""
    monkeypatch.setattr(limits, "MOST_UNREAD_BYTES", 2 * len(LARGE))
    async with serving(DB, metrics=lambda *_: LARGE) as stand, AsyncExitStack() as stack:
        keen = await asks_and_does_not_read(stand, stack)
        assert await is_whole(keen)
        clients = [await asks_and_does_not_read(stand, stack) for _ in range(5)]
        await keen.send(LIVEZ)  # it was the first that had to wait, and does no more
        assert (await keen.reply()).code == 200
        assert [await is_whole(client) for client in clients] == [False, False, False, True, True]


# --- what is kept of those that have gone ---------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What goes is gone at once, or not at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def remembered() -> int:
    """Connections that are still in memory."""
    return sum(isinstance(thing, Connection) for thing in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
async def test_what_was_no_request_is_forgotten_with_its_connection() -> None:
    """Each kept half a megabyte until the collector ran, which counts objects and not bytes: 70 MiB for some hundred clients."""
    async with serving(DB) as stand:
        for garbage in (b"GET /" + b"a" * 1_000_000, b"X: y\r\n" * 200_000, b"\0" * 1_000_000):
            await says(stand.port, garbage)
        await eventually(lambda: remembered() == 0, 5)


@pytest.mark.usefixtures("no_collector", "narrow")
async def test_what_was_not_read_is_forgotten_with_its_connection() -> None:
    """A client that goes while its answer waits must not leave the answer behind."""
    async with serving(DB, metrics=lambda *_: LARGE) as stand:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await asks_and_does_not_read(stand, stack)
        await eventually(lambda: remembered() == 0, 5)


# --- many clients -------------------------------------------------------------------------------------------------------


async def test_for_one_too_many_the_longest_unused_goes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever opens connections without end must not keep out those that ask."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 4)
    async with serving(DB) as stand, AsyncExitStack() as stack:
        prometheus = await stack.enter_async_context(wire(stand.port))
        for _ in range(20):
            await stack.enter_async_context(wire(stand.port))
            await prometheus.send(LIVEZ)
            assert (await prometheus.reply()).code == 200
        newest = await stack.enter_async_context(wire(stand.port))
        await newest.send(LIVEZ)
        assert (await newest.reply()).code == 200
    assert "4 connections are open" in caplog.text


async def test_those_that_have_gone_take_no_room(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """kubelet makes a connection for every question."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    async with serving(DB) as stand, wire(stand.port) as idle:
        for _ in range(10):
            assert await says(stand.port, LIVEZ.replace(b"1.1", b"1.0"))
        await idle.send(LIVEZ)
        assert (await idle.reply()).code == 200
    assert caplog.text == ""


@pytest.mark.usefixtures("narrow")
async def test_what_is_being_answered_goes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle ones make room first; if there are none, the oldest does, whose client is why it is still there."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    async with serving(DB, metrics=lambda *_: LARGE) as stand, AsyncExitStack() as stack:
        slow = [await asks_and_does_not_read(stand, stack), await asks_and_does_not_read(stand, stack)]
        idle = await stack.enter_async_context(wire(stand.port))
        third = await asks_and_does_not_read(stand, stack)
        assert await idle.rest() == b""
        newest = await stack.enter_async_context(wire(stand.port))
        await newest.send(LIVEZ)
        assert (await newest.reply()).code == 200
        assert [await is_whole(client) for client in (*slow, third)] == [False, True, True]


async def test_half_of_the_files_are_left_to_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all of them taken by clients, every probe would say that its target is down."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (12, 12))
    async with serving(DB) as stand, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(wire(stand.port)) for _ in range(9)]
        await clients[-1].send(LIVEZ)
        assert (await clients[-1].reply()).code == 200
        await eventually(lambda: sum(client.reader.at_eof() for client in clients) == 3, 5)
