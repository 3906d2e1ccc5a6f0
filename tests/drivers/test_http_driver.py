"""One answer of a real server by the HTTP driver: its phases, what is sent, and what errors are called."""

import asyncio
import errno
import os
import ssl
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError

from exporter import __version__
from exporter.demo.servers import HOST
from exporter.drivers.dns import Resolver
from exporter.drivers.http import BODY_LIMIT_BYTES, Client, Hop, Request, shown_path, translate
from exporter.drivers.kept import Lease
from exporter.drivers.tls import Tls
from exporter.model import CHECK, Reason
from exporter.secret import Secret
from tests.faults import peer
from tests.http_client import HEAD, fetch
from tests.http_targets import Certificates, answering, serving
from tests.servers import closed_port, nothing_left

# one answer


async def test_phases_of_a_plain_request_add_up() -> None:
    """Each phase is measured for itself, none twice, and there is no TLS phase without TLS."""
    trail: list[Hop] = []
    async with nothing_left(), serving(answering()) as target:
        started = time.monotonic()
        answer = await fetch(f"{target.url}/health?token=hunter2", trail)
        total = time.monotonic() - started
    assert (answer.status, answer.http_version, answer.body, answer.complete) == (200, "1.1", b"hello", True)
    assert answer.content_length == 5
    assert answer.where == f"GET {target.place}/health"
    assert set(trail[0].seconds) == {"resolve", "connect", "processing", "transfer"}
    assert 0 < sum(trail[0].seconds.values()) <= total
    assert (trail[0].ip_version, trail[0].tls) == (4, None)


async def test_slow_phases_are_told_apart() -> None:
    """Somebody looks at the phases to learn where the time went: a slow answer is processing, a slow body is transfer."""

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(0.1)
        await response.write(b"x")
        return response

    trail: list[Hop] = []
    async with serving(slow) as target:
        await fetch(target.url, trail)
    seconds = trail[0].seconds
    assert seconds["processing"] >= 0.15  # the headers may be late, which the body then is not
    assert seconds["transfer"] >= 0.05
    assert seconds["connect"] < seconds["processing"]


async def test_tls_is_a_phase_with_its_version_and_expiry(certificates: Certificates) -> None:
    """A certificate is renewed in time only when somebody sees its end."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    trail: list[Hop] = []
    async with nothing_left(), serving(answering(), tls=certificates.server(not_after=ends)) as target:
        await fetch(target.url, trail, tls=Tls(ca_file=certificates.ca_file))
    assert set(trail[0].seconds) == {"resolve", "connect", "tls", "processing", "transfer"}
    assert trail[0].tls is not None
    assert (trail[0].tls.version, trail[0].tls.expires) == ("TLSv1.3", ends.timestamp())


async def test_a_slow_handshake_is_tls_and_not_connect(certificates: Certificates) -> None:
    """TCP is the network, TLS is the server: blackbox's users read them apart."""
    context = certificates.server()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # what was read before start_tls is lost to it
        await asyncio.sleep(0.2)
        await writer.start_tls(context)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    trail: list[Hop] = []
    async with peer(late) as port:
        await fetch(f"https://{HOST}:{port}", trail, tls=Tls(ca_file=certificates.ca_file))
    assert trail[0].seconds["tls"] >= 0.2
    assert trail[0].seconds["connect"] < 0.2


async def test_every_request_has_a_connection_of_its_own() -> None:
    """A kept connection says that a server can be reached long after it cannot."""
    connections: set[object] = set()

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        connections.add(request.transport)
        return web.Response()

    client = Client(Resolver(), Tls())
    async with nothing_left(), serving(note) as target:
        for _ in range(3):
            await client.fetch(Request(Secret(target.url)), [], Lease(CHECK))
    assert len(connections) == 3
    assert {asked.headers["connection"] for asked in target.asked} == {"close"}


async def test_what_is_sent() -> None:
    """The server's log must tell who asks, and nothing that was not configured is added to confuse it."""
    async with serving(answering()) as target:
        headers = {"Host": Secret("app.internal"), "X-Tenant": Secret("a")}
        await fetch(
            f"{target.url}/a%2Fb?c=d%20e#f", method="POST", headers=headers, body=Secret("née"), authorization=Secret("Basic eA==")
        )
    asked = target.asked[0]
    assert (asked.method, asked.path, asked.body) == ("POST", "/a%2Fb?c=d%20e", "née".encode())
    assert asked.headers["user-agent"] == f"sidecar-exporter/{__version__}"
    assert (asked.headers["host"], asked.headers["x-tenant"], asked.headers["authorization"]) == ("app.internal", "a", "Basic eA==")
    assert not {"accept-encoding", "content-type", "cookie"} & set(asked.headers)


async def test_a_configured_user_agent_replaces_ours() -> None:
    """Some servers let only known clients in."""
    async with serving(answering()) as target:
        await fetch(target.url, headers={"user-agent": Secret("mine/1")})
    assert target.asked[0].headers["user-agent"] == "mine/1"


async def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that asks a proxy judges the proxy."""
    with closed_port() as port:
        monkeypatch.setenv("http_proxy", f"http://{HOST}:{port}")
        async with serving(answering()) as target:
            assert (await fetch(target.url)).status == 200


async def test_head_has_no_body() -> None:
    """HEAD keeps the load off a server; its Content-Length speaks of a body that never comes."""
    async with nothing_left(), serving(answering(body=b"x" * 1000)) as target:
        answer = await fetch(target.url, method="HEAD")
    assert (answer.body, answer.complete, answer.content_length) == (b"", True, 1000)


async def test_reading_stops_at_the_limit() -> None:
    """A probe pointed at a download must not load it every 15 s."""
    async with nothing_left(), serving(answering(body=b"x" * (10 * 1024 * 1024))) as target:
        answer = await fetch(target.url)
        assert (len(answer.body), answer.complete) == (BODY_LIMIT_BYTES, False)
    async with serving(answering(body=b"x" * BODY_LIMIT_BYTES)) as target:
        assert (await fetch(target.url)).complete


async def test_ipv6() -> None:
    """An address in brackets, and a message that keeps them."""
    trail: list[Hop] = []
    async with nothing_left(), serving(answering(), host="::1") as target:
        answer = await fetch(target.url, trail)
    assert answer.where == f"GET [::1]:{target.port}/"
    assert trail[0].ip_version == 6


# translation


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def _tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "hunter2")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Reason.REFUSED, "connection refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), Reason.RESET, "connection reset"),
        (BrokenPipeError(errno.EPIPE, "x"), Reason.RESET, "connection reset"),
        (ConnectionAbortedError("x"), Reason.RESET, "connection aborted"),
        (OSError(errno.EHOSTUNREACH, "x"), Reason.UNREACHABLE, os.strerror(errno.EHOSTUNREACH).lower()),
        (OSError(errno.EADDRNOTAVAIL, "x"), Reason.UNREACHABLE, "cannot assign requested address"),
        (TimeoutError(errno.ETIMEDOUT, "x"), Reason.TIMEOUT, "connection timed out"),
        (_tls_error("UNEXPECTED_MESSAGE"), Reason.TLS, "unexpected message"),
        (_tls_error("RECORD_LAYER_FAILURE"), Reason.TLS, "the server does not speak TLS"),
        (aiohttp.ServerDisconnectedError("hunter2"), Reason.RESET, "connection closed before an answer"),
        (aiohttp.ClientConnectionError("hunter2"), Reason.RESET, "connection closed"),
        (aiohttp.ClientPayloadError("hunter2"), Reason.PROTOCOL, "the body is not valid HTTP"),
        (_caused(aiohttp.ClientPayloadError("x"), BadStatusLine("hunter2")), Reason.PROTOCOL, "the answer is not valid HTTP"),
        (_caused(aiohttp.ClientOSError(1, "x"), ConnectionResetError()), Reason.RESET, "connection reset"),
        (_caused(aiohttp.ClientOSError(1, "x"), _tls_error("HTTP_REQUEST")), Reason.TLS, "the server does not speak TLS"),
        (HttpProcessingError(message="hunter2"), Reason.PROTOCOL, "the answer is not valid HTTP"),
        (aiohttp.InvalidURL("http://hunter2"), Reason.CONFIG, "the url cannot be read"),
    ],
)
def test_translation(error: Exception, reason: Reason, message: str) -> None:
    """Each exception has one reason, and nothing that a peer or a URL could have put into it is repeated."""
    failed = translate(error, "GET app:8000/")
    assert failed is not None
    assert (failed.reason, failed.message.lower()) == (reason, f"get app:8000/: {message.lower()}")
    alone = translate(error)
    assert alone is not None
    assert alone.message.lower() == message.lower()


@pytest.mark.parametrize("error", [KeyError("x"), AttributeError("x"), OSError(errno.EMFILE, "x")])
def test_our_own_bugs_are_not_translated(error: Exception) -> None:
    """They become `internal`: a target is not blamed for them."""
    assert translate(error) is None


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/health", "/health"),
        ("/api/v3/ping", "/api/v3/ping"),
        ("/bot123456:AAFq-x/getMe", "/…/getMe"),
        ("/services/T024BE7LD/B0/XXXXXXXXXXXXXXXXXXXXXXXXX", "/services/T024BE7LD/B0/…"),
        ("/hook/c4nary-t0ken-1", "/hook/…"),
        ("/a" * 60, "/a" * 39 + "/…"),
    ],
)
def test_a_path_is_shown_without_what_looks_like_a_token(path: str, shown: str) -> None:
    """Webhooks and bots carry their token in the path, where nobody looks for it."""
    assert shown_path(path) == shown
