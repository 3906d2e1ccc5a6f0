"""The HTTP driver against real servers: phases, redirects, faults, and what is left when it is stopped."""

import asyncio
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError

from exporter import __version__, phase
from exporter.demo.servers import HOST
from exporter.drivers.dns import Resolver
from exporter.drivers.http import BODY_LIMIT_BYTES, MOST_REDIRECTS, Answer, Client, Hop, Request, shown_path, translate
from exporter.drivers.kept import Lease
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import CHECK, Reason
from exporter.secret import Secret
from tests.faults import TEN_ZEROS, black_hole, dripping, garbage, peer, resetting, saying, saying_over_tls, silent
from tests.http_targets import Certificates, answering, redirecting, serving, serving_by_openssl
from tests.servers import closed_port, eventually, nothing_left, open_fds

HEAD = b"HTTP/1.1 200 OK\r\n"
CREDENTIALS = {"X-Api-Key": Secret("key-hunter2"), "Cookie": Secret("sid=hunter2"), "Accept": Secret("text/html")}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority for all tests here: making one takes its time."""
    return Certificates(tmp_path_factory.mktemp("tls"))


async def fetch(
    url: str,
    trail: list[Hop] | None = None,
    *,
    tls: Tls | None = None,
    lease: Lease | None = None,
    seconds: float = 10,
    **request: object,
) -> Answer:
    """One answer from a client of its own."""
    client = Client(Resolver(), tls or Tls())
    asked = Request(Secret(url), **request)  # type: ignore[arg-type]
    async with asyncio.timeout(seconds):
        return await client.fetch(asked, [] if trail is None else trail, lease or Lease(CHECK))


async def failure(url: str, **options: object) -> ProbeError:
    """The error that asking ends with."""
    with pytest.raises(ProbeError) as caught:
        await fetch(url, **options)  # type: ignore[arg-type]
    return caught.value


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
    assert seconds["processing"] >= 0.2
    assert seconds["transfer"] >= 0.1
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


# redirects


async def test_a_redirect_on_the_same_origin_keeps_credentials() -> None:
    """A login page that moves is still asked by us; each request adds its phases."""

    async def move(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response() if request.path == "/new" else web.Response(status=302, headers={"Location": "/new"})

    trail: list[Hop] = []
    async with nothing_left(), serving(move) as target:
        answer = await fetch(target.url, trail, headers=CREDENTIALS, authorization=Secret("Bearer t"))
    assert answer.authorized
    assert len(trail) == 2
    assert answer.where == f"GET {target.place}/ → {target.place}"
    assert target.asked[1].headers["authorization"] == "Bearer t"
    assert target.asked[1].headers["x-api-key"] == "key-hunter2"


async def test_credentials_are_never_sent_to_another_origin() -> None:
    """Whoever controls a redirect must not collect our password, nor any header that might be one, nor get it on the way back."""

    async def send_away(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response() if request.path == "/back" else web.Response(status=302, headers={"Location": away.url})

    async with nothing_left(), serving(send_away) as target, serving(redirecting(f"{target.url}/back")) as away:
        answer = await fetch(target.url, headers=CREDENTIALS, authorization=Secret("Bearer t"))
    first, back = target.asked
    assert first.headers["authorization"] == "Bearer t"
    for asked in (away.asked[0], back):
        assert not {"authorization", "x-api-key", "cookie"} & set(asked.headers)
        assert asked.headers["accept"] == "text/html"
    assert not answer.authorized
    assert answer.where == f"GET {target.place}/ → {target.place}"


async def test_another_name_of_the_same_server_is_another_origin() -> None:
    """The port alone tells nothing of who listens behind a name."""
    async with serving(redirecting(lambda: f"http://localhost:{target.port}/", 307)) as target:
        error = await failure(target.url, authorization=Secret("Bearer t"))
    assert error.reason is Reason.HTTP_STATUS
    assert [("authorization" in asked.headers) for asked in target.asked] == [True] + [False] * MOST_REDIRECTS


async def test_a_downgrade_to_http_loses_credentials(certificates: Certificates) -> None:
    """What was meant for TLS must not cross the network in the clear."""
    async with (
        serving(answering()) as plain,
        serving(redirecting(lambda: plain.url), tls=certificates.server()) as target,
    ):
        await fetch(target.url, tls=Tls(ca_file=certificates.ca_file), authorization=Secret("Bearer t"), headers=CREDENTIALS)
    assert "authorization" in target.asked[0].headers
    assert not {"authorization", "x-api-key", "cookie"} & set(plain.asked[0].headers)


async def test_the_user_of_a_location_is_ignored() -> None:
    """A server does not choose whom we log in as."""
    async with serving(answering()) as other, serving(redirecting(f"http://user:secret@{other.place}/")) as target:
        await fetch(target.url)
    assert "authorization" not in other.asked[0].headers


async def test_the_client_certificate_stays_at_the_configured_origin(certificates: Certificates) -> None:
    """It is a credential as a password is."""
    tls = Tls(ca_file=certificates.ca_file, cert_file=certificates.client_file)
    async with (
        serving(answering(), tls=certificates.server(client=ssl.CERT_OPTIONAL)) as other,
        serving(redirecting(lambda: other.url), tls=certificates.server(client=ssl.CERT_REQUIRED)) as target,
    ):
        await fetch(target.url, tls=tls)
    assert (target.asked[0].certificate, other.asked[0].certificate) == (True, False)


async def test_the_configured_server_name_is_for_the_configured_origin(certificates: Certificates) -> None:
    """Another host is verified by its own name."""
    async with (
        serving(answering(), tls=certificates.server()) as other,
        serving(redirecting(lambda: other.url), tls=certificates.server("app.internal")) as target,
    ):
        answer = await fetch(target.url, tls=Tls(ca_file=certificates.ca_file, server_name="app.internal"))
    assert answer.status == 200


@pytest.mark.parametrize(
    ("status", "method", "becomes"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ],
)
async def test_methods_after_a_redirect(status: int, method: str, becomes: str) -> None:
    """RFC 9110, section 15.4: what turns into GET loses its body."""

    async def move(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response() if request.path == "/new" else web.Response(status=status, headers={"Location": "/new"})

    async with serving(move) as target:
        await fetch(target.url, method=method, body=None if method == "HEAD" else Secret("b"))
    assert target.asked[1].method == becomes
    assert target.asked[1].body == (b"b" if becomes in ("POST", "PUT") else b"")


async def test_a_body_is_not_sent_to_another_host() -> None:
    """A body may hold a password, and without it the request would be another one."""
    async with serving(answering()) as other, serving(redirecting(f"{other.url}/?token=x", 307)) as target:
        error = await failure(f"{target.url}/login", method="POST", body=Secret("password"))
    assert (error.reason, error.retryable) == (Reason.HTTP_STATUS, False)
    assert error.message == f"POST {target.place}/login: redirects to another host, which is not sent the body"
    assert not other.asked


async def test_ten_redirects_are_followed_and_no_more() -> None:
    """A loop must end, and must be told from a server that is down."""

    async def count_down(request: web.BaseRequest) -> web.StreamResponse:
        left = int(request.path[1:])
        return web.Response(status=302, headers={"Location": f"/{left - 1}"}) if left else web.Response()

    async with nothing_left(), serving(count_down) as target:
        assert (await fetch(f"{target.url}/{MOST_REDIRECTS}")).status == 200
        target.asked.clear()
        error = await failure(f"{target.url}/{MOST_REDIRECTS + 1}")
    assert (error.reason, error.retryable) == (Reason.HTTP_STATUS, False)
    assert error.message == f"GET {target.place}/11: more than 10 redirects"
    assert len(target.asked) == 1 + MOST_REDIRECTS


async def test_a_page_that_sets_a_cookie_and_redirects_to_itself_is_reached() -> None:
    """Consent and session pages do so; without the cookie it is a loop."""

    async def gate(request: web.BaseRequest) -> web.StreamResponse:
        if request.cookies.get("seen") == "1":
            return web.Response()
        return web.Response(status=302, headers={"Location": "/", "Set-Cookie": "seen=1; Path=/"})

    async with serving(gate, name="localhost") as target:
        assert (await fetch(target.url)).status == 200


@pytest.mark.parametrize("location", ["mailto:root@localhost", "http://[::1/", "ftp://127.0.0.1/", "http://:80/"])
async def test_a_redirect_that_leads_nowhere(location: str) -> None:
    """It is the server's fault, and its Location, which may hold anything, is not repeated."""
    async with serving(redirecting(location)) as target:
        error = await failure(f"{target.url}/a")
    assert error.reason is Reason.HTTP_STATUS
    assert error.message.startswith(f"GET {target.place}/a: redirects to ")
    assert location not in error.message


async def test_redirects_are_left_alone_when_so_configured() -> None:
    """Then the redirect is the answer, its body too."""
    async with serving(redirecting("/elsewhere")) as target:
        answer = await fetch(target.url, follow_redirects=False)
    assert answer.status == 302
    assert len(target.asked) == 1


async def test_a_redirect_without_location_is_an_answer() -> None:
    """There is nowhere to go."""
    async with serving(answering(302)) as target:
        assert (await fetch(target.url)).status == 302


# faults of the peer


async def test_refused() -> None:
    """Nothing listens."""
    with closed_port() as port:
        error = await failure(f"http://user:pw@{HOST}:{port}/health?key=hunter2")
    assert (error.reason, error.message, error.retryable) == (Reason.REFUSED, f"connect {HOST}:{port}: connection refused", True)


async def test_unreachable() -> None:
    """No route: the kernel says so at once for TCP to a broadcast address, and sends nothing."""
    error = await failure("http://127.255.255.255:9/")
    assert (error.reason, error.message) == (Reason.UNREACHABLE, "connect 127.255.255.255:9: network is unreachable")


async def test_reset() -> None:
    """A crash while it reads our request; and it is asked once, not twice as aiohttp would."""
    connections = 0

    async def crash(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readexactly(1)
        writer.transport.abort()

    async with nothing_left(), peer(crash) as port:
        error = await failure(f"http://{HOST}:{port}/")
    assert error.reason is Reason.RESET
    assert connections == 1


async def test_reset_at_once() -> None:
    """RST as the answer to the connection itself."""
    async with nothing_left(), resetting() as port:
        assert (await failure(f"http://{HOST}:{port}/")).reason is Reason.RESET


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (TEN_ZEROS, "the answer is not valid HTTP"),
        (garbage(1), "the answer is not valid HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not valid HTTP"),
        (b"-ERR unknown command\r\n", "the answer is not valid HTTP"),
        (HEAD + b"X-A: " + b"hunter2" * 2000 + b"\r\n\r\n", "a line of the answer's header is too long"),
        (HEAD + b"".join(b"X-%d: hunter2\r\n" % n for n in range(500)) + b"\r\n", "the answer is not valid HTTP"),
        (HEAD + b"X\0: hunter2\r\n\r\n", "the answer is not valid HTTP"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "the answer is not valid HTTP"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhunter2", "the answer is not valid HTTP"),
    ],
)
async def test_what_is_not_http_is_protocol(sent: bytes, what: str) -> None:
    """Another service on the port, or a broken one: told at once, with the loop free, and without a byte of what it said."""
    async with nothing_left(), saying(sent) as port:
        error = await failure(f"http://{HOST}:{port}/", seconds=5)
    assert (error.reason, error.message) == (Reason.PROTOCOL, f"GET {HOST}:{port}/: {what}")


async def test_chunks_that_turn_to_garbage_end_the_body() -> None:
    """aiohttp alone would wait for more until the deadline."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)  # so that the body is being read by now
        writer.write(b"zz\r\n")
        await reader.read()

    async with nothing_left(), peer(break_off) as port:
        error = await failure(f"http://{HOST}:{port}/", seconds=5)
    assert (error.reason, error.message) == (
        Reason.PROTOCOL,
        f"GET {HOST}:{port}/, reading the body: the answer is not valid HTTP",
    )


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", ": connection closed before an answer"),
        (HEAD + b"X-A: b", ": connection closed before an answer"),
        (HEAD + b"Content-Length: 9\r\n\r\nhi", ", reading the body: connection closed in the middle of the body"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhi", ", reading the body: connection closed in the middle of the body"),
    ],
)
async def test_a_connection_closed_too_early_is_reset(sent: bytes, what: str) -> None:
    """A worker that was killed: how far it got is worth knowing."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.write_eof()
        await reader.read()

    trail: list[Hop] = []
    async with nothing_left(), peer(close) as port:
        error = await failure(f"http://{HOST}:{port}/", trail=trail)
    assert (error.reason, error.message) == (Reason.RESET, f"GET {HOST}:{port}/{what}")
    assert "transfer" not in trail[0].seconds


async def test_a_hundred_failing_checks_leave_nothing() -> None:
    """A target that is down for days must not eat our file descriptors."""
    async with nothing_left(), resetting() as reset, saying(TEN_ZEROS) as zeros:
        with closed_port() as closed:
            for _ in range(34):
                for port, scheme in ((reset, "http"), (zeros, "https"), (closed, "http")):
                    await failure(f"{scheme}://{HOST}:{port}/", tls=Tls(insecure_skip_verify=True))


# TLS


@pytest.mark.parametrize(
    ("names", "days", "trusted", "message"),
    [
        (("localhost",), (-9, -1), True, "the certificate has expired"),
        (("localhost",), (1, 9), True, "the certificate is not yet valid"),
        (("elsewhere.example",), (-1, 9), True, "the certificate is for another name"),
        (("localhost",), (-1, 9), False, "the certificate's authority is not trusted"),
    ],
)
async def test_a_bad_certificate_is_named(
    certificates: Certificates, names: tuple[str, ...], days: tuple[int, int], trusted: bool, message: str
) -> None:
    """In words that tell what to do; and the connection was tried, so its phases are there."""
    start, end = (datetime.now(UTC) + timedelta(days=day) for day in days)
    tls = Tls(ca_file=certificates.ca_file if trusted else None)
    trail: list[Hop] = []
    async with nothing_left(), serving(answering(), tls=certificates.server(*names, not_before=start, not_after=end)) as target:
        error = await failure(f"https://localhost:{target.port}/?key=hunter2", trail=trail, tls=tls)
    assert (error.reason, error.retryable) == (Reason.TLS, False)
    assert error.message == f"TLS handshake with localhost:{target.port}: {message}"
    assert set(trail[0].seconds) == {"resolve", "connect"}
    assert trail[0].tls is None


async def test_an_address_that_a_certificate_does_not_name(certificates: Certificates) -> None:
    """Asked by address, the certificate must hold the address."""
    async with serving(answering(), tls=certificates.server("localhost")) as target:
        error = await failure(target.url, tls=Tls(ca_file=certificates.ca_file))
    assert error.message == f"TLS handshake with {target.place}: the certificate is for another address"


async def test_an_unverified_certificate_still_tells_its_end(certificates: Certificates) -> None:
    """Self-signed certificates run out too, and the standard library does not decode what it did not verify."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=-3)
    trail: list[Hop] = []
    async with serving(answering(), tls=certificates.server("elsewhere", not_before=ends - timedelta(9), not_after=ends)) as target:
        await fetch(target.url, trail, tls=Tls(insecure_skip_verify=True))
    assert trail[0].tls is not None
    assert trail[0].tls.expires == ends.timestamp()


async def test_a_server_that_does_not_speak_tls() -> None:
    """https:// on the plain port is a common slip."""
    async with nothing_left(), serving(answering()) as target:
        error = await failure(target.url.replace("http:", "https:"))
    assert (error.reason, error.message) == (Reason.TLS, f"TLS handshake with {target.place}: the server does not speak TLS")


async def test_a_server_that_speaks_only_tls(certificates: Certificates) -> None:
    """http:// on the TLS port: OpenSSL's servers close, some answer in their own way."""
    with serving_by_openssl(certificates.server()) as port:
        error = await failure(f"http://{HOST}:{port}/")
    assert error.reason in (Reason.RESET, Reason.PROTOCOL)


async def test_ten_zeros_inside_tls_are_protocol(certificates: Certificates) -> None:
    """Garbage is garbage, encrypted or not."""
    async with nothing_left(), saying_over_tls(TEN_ZEROS, certificates.authority, postgres=False) as port:
        error = await failure(f"https://{HOST}:{port}/", tls=Tls(ca_file=certificates.ca_file), seconds=5)
    assert error.reason is Reason.PROTOCOL


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_missing_client_certificate_is_named(certificates: Certificates, version: ssl.TLSVersion) -> None:
    """TLS 1.3 refuses after the handshake, so it must not look like a lost connection."""
    context = certificates.server(client=ssl.CERT_REQUIRED)
    context.maximum_version = version
    with serving_by_openssl(context) as port:
        error = await failure(f"https://{HOST}:{port}/", tls=Tls(ca_file=certificates.ca_file))
    assert error.reason is Reason.TLS, error.message


async def test_a_client_certificate_is_presented(certificates: Certificates) -> None:
    """Mutual TLS."""
    tls = Tls(ca_file=certificates.ca_file, cert_file=certificates.client_file)
    async with serving(answering(), tls=certificates.server(client=ssl.CERT_REQUIRED)) as target:
        await fetch(target.url, tls=tls)
    assert target.asked[0].certificate


async def test_a_lower_version_is_refused(certificates: Certificates) -> None:
    """min_version is a promise."""
    context = certificates.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving_by_openssl(context) as port:
        error = await failure(f"https://{HOST}:{port}/", tls=Tls(ca_file=certificates.ca_file, min_version="TLS13"))
    assert (error.reason, error.message) == (Reason.TLS, f"TLS handshake with {HOST}:{port}: no TLS version in common")


async def test_a_ca_file_that_was_missing_takes_effect_once_it_is_there(certificates: Certificates, tmp_path: Path) -> None:
    """Secrets are mounted late and renewed in place; no restart may be needed."""
    ca_file = tmp_path / "ca.pem"
    client = Client(Resolver(), Tls(ca_file=str(ca_file)))
    async with nothing_left(), serving(answering(), tls=certificates.server()) as target:
        request = Request(Secret(target.url))
        with pytest.raises(ProbeError) as missing:
            await client.fetch(request, [], Lease(CHECK))
        ca_file.write_bytes(Certificates(tmp_path).authority.cert_pem.bytes())
        with pytest.raises(ProbeError) as wrong:
            await client.fetch(request, [], Lease(CHECK))
        ca_file.write_bytes(certificates.authority.cert_pem.bytes())
        assert (await client.fetch(request, [], Lease(CHECK))).status == 200
    assert (missing.value.reason, wrong.value.reason) == (Reason.CONFIG, Reason.TLS)


# names


async def test_a_name_that_does_not_exist_is_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection was tried."""

    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await failure("http://nowhere.invalid/?key=hunter2")
    assert (error.reason, error.message) == (Reason.DNS, "resolve nowhere.invalid: Name or service not known")


@pytest.fixture
async def hanging_lookups(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """No lookup answers before the test is over."""
    over = threading.Event()

    def hang(*_args: object, **_options: object) -> None:
        over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    over.set()


@pytest.mark.usefixtures("hanging_lookups")
async def test_a_name_that_is_never_resolved_is_dns_at_the_deadline() -> None:
    """The deadline reads the mark; the loop is free meanwhile."""
    phases = phase.begin()
    task = asyncio.create_task(fetch("http://slow.invalid/"))
    await eventually(lambda: phases.innermost == ("resolve slow.invalid", Reason.DNS), 5)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
    assert phases.innermost == ("", Reason.TIMEOUT)


# deadlines


async def stalled(where: str, certificates: Certificates, stack: AsyncExitStack) -> tuple[str, str]:
    """A URL that hangs in one phase, and the mark it leaves."""
    if where == "connect":
        port = await stack.enter_async_context(black_hole())
        return f"http://{HOST}:{port}/", f"connect {HOST}:{port}"
    if where == "tls":
        port = await stack.enter_async_context(silent())
        return f"https://{HOST}:{port}/", f"TLS handshake with {HOST}:{port}"
    if where == "answer":
        port = await stack.enter_async_context(silent())
        return f"http://{HOST}:{port}/slow?key=hunter2", f"GET {HOST}:{port}/slow"
    if where == "answer over TLS":
        port = await stack.enter_async_context(saying_over_tls(b"", certificates.authority, postgres=False))
        return f"https://{HOST}:{port}/", f"GET {HOST}:{port}/"
    port = await stack.enter_async_context(dripping(HEAD + b"Content-Length: 99\r\n\r\n" + b"x" * 50, 0.001))
    return f"http://{HOST}:{port}/", f"GET {HOST}:{port}/, reading the body"


STALLS = ("connect", "tls", "answer", "answer over TLS", "body")


@pytest.mark.parametrize("where", STALLS)
async def test_a_deadline_can_name_what_was_waited_for(where: str, certificates: Certificates) -> None:
    """ "timeout" alone sends an operator to the wrong place."""
    async with nothing_left(), AsyncExitStack() as stack:
        url, mark = await stalled(where, certificates, stack)
        phases = phase.begin()
        task = asyncio.create_task(fetch(url, tls=Tls(ca_file=certificates.ca_file)))
        await eventually(lambda: phases.innermost == (mark, Reason.TIMEOUT), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("where", STALLS)
async def test_a_cancel_closes_the_socket_at_once(where: str, certificates: Certificates) -> None:
    """The deadline cancels; a TLS shutdown that waits 30 s for a frozen peer would hold the descriptor."""
    async with AsyncExitStack() as stack:
        url, mark = await stalled(where, certificates, stack)
        async with nothing_left(within=1):
            phases = phase.begin()
            task = asyncio.create_task(fetch(url, tls=Tls(ca_file=certificates.ca_file)))
            await eventually(lambda: phases.innermost[0] == mark, 5)
            task.cancel()
            await asyncio.wait([task], timeout=1)
            assert task.cancelled()
            if where != "connect":
                await stack.aclose()  # the peer's own end of the connection


@pytest.mark.parametrize("where", ["tls", "answer", "answer over TLS", "body"])
async def test_drop_closes_the_socket_though_the_cancel_is_swallowed(where: str, certificates: Certificates) -> None:
    """The engine drops after every deadline, for drivers are known to swallow a cancel."""
    async with nothing_left(), AsyncExitStack() as stack:
        url, mark = await stalled(where, certificates, stack)
        lease = Lease(CHECK)
        phases = phase.begin()
        task = asyncio.create_task(fetch(url, tls=Tls(ca_file=certificates.ca_file), lease=lease))
        await eventually(lambda: phases.innermost[0] == mark, 5)
        lease.drop()
        with pytest.raises(ProbeError) as caught:
            await asyncio.wait_for(task, 1)
        assert caught.value.reason is Reason.RESET


async def test_a_peer_that_ignores_our_goodbye_holds_nothing(certificates: Certificates) -> None:
    """asyncio waits 30 s for the answer to a TLS shutdown; a server frozen just then would cost a descriptor each check."""
    context = certificates.server()

    async def freeze(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(context)
        writer.write(HEAD + b"Content-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # WriteTransport's own class has it
        await asyncio.Event().wait()

    async with peer(freeze) as port:
        async with asyncio.timeout(20):
            fds = open_fds()
            answer = await fetch(f"https://{HOST}:{port}/", tls=Tls(ca_file=certificates.ca_file))
            await eventually(lambda: (open_fds() - fds)["socket"] == 1, 1)  # the peer's end alone
    assert answer.body == b"hi"


async def test_a_request_on_a_dropped_lease_opens_nothing_that_lasts() -> None:
    """An abandoned run that wakes up late must not hold a connection."""
    lease = Lease(CHECK)
    lease.drop()
    async with nothing_left(), silent() as port:
        with pytest.raises(ProbeError):
            await fetch(f"http://{HOST}:{port}/", lease=lease, seconds=2)


async def test_the_loop_is_free_while_a_peer_sends_zeros() -> None:
    """One bad peer must not delay the others' probes."""
    late = 0.0

    async def watch() -> None:
        nonlocal late
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.005)
            late = max(late, time.monotonic() - started)

    async with saying(TEN_ZEROS * 100_000) as port:
        watcher = asyncio.create_task(watch())
        for _ in range(20):
            await failure(f"http://{HOST}:{port}/")
        watcher.cancel()
    assert late < 1.0  # a parser that spins never lets go


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
