"""What one client may do to its connection, and how it ends. In here is every method of aiohttp's that we answer instead of it."""

import asyncio
import gzip
import logging
import time
from contextlib import suppress

import pytest

from exporter.web import connection as limits
from tests.conftest import Count
from tests.malformed import CASES, MARK
from tests.raw_http import says, wire
from tests.servers import nothing_left
from tests.web.serving import DB, Stand, serving

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


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
