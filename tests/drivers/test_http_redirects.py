"""Redirects by the HTTP driver: what is followed, and what never goes along to another origin."""

import ssl

import pytest
from aiohttp import web

from exporter.drivers.http import MOST_REDIRECTS, Hop
from exporter.drivers.tls import Tls
from exporter.model import Reason
from exporter.secret import Secret
from tests.http_client import failure, fetch
from tests.http_targets import Certificates, answering, redirecting, serving
from tests.servers import nothing_left

CREDENTIALS = {"X-Api-Key": Secret("key-hunter2"), "Cookie": Secret("sid=hunter2"), "Accept": Secret("text/html")}


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
