"""The HTTP probe against real servers: verdicts, series and facts."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web

from exporter import phase
from exporter.demo.servers import HOST
from exporter.drivers.dns import Resolver
from exporter.errors import AssertionFailed, ProbeError
from exporter.model import CHECK, Reading, Reason
from exporter.probes import TYPES
from exporter.probes.base import Runtime
from exporter.probes.http import metrics
from exporter.probes.http.probe import HttpProbe
from exporter.probes.http.settings import HttpSettings
from tests.faults import TEN_ZEROS, dripping, saying, silent
from tests.http_targets import Certificates, Handler, answering, redirecting, serving
from tests.servers import closed_port, eventually, nothing_left


def probe(url: str, **keys: object) -> HttpProbe:
    """A probe as the configuration makes it."""
    settings = HttpSettings.model_validate({"type": "http", "url": url} | keys)
    return HttpProbe("app", settings, Runtime("default", Resolver()))


async def check(url: str, **keys: object) -> Reading:
    """What one check reads, under a deadline as the engine's."""
    async with asyncio.timeout(10):
        return await probe(url, **keys).check()


async def failure(url: str, **keys: object) -> ProbeError:
    """What one check fails with; it carries what was read."""
    with pytest.raises(ProbeError) as caught:
        await check(url, **keys)
    assert caught.value.reading is not None
    return caught.value


def values(reading: Reading | None) -> dict[str, float]:
    """The series by name, with their label values behind it."""
    assert reading is not None
    found = {
        " ".join((family.metric.name, *labels)): value
        for family in reading.families
        for labels, value in family.rows
        if isinstance(value, int | float)
    }
    assert {family.metric for family in reading.families} <= set(metrics.DECLARED)
    assert all(len(labels) == len(family.metric.labels) for family in reading.families for labels, _ in family.rows)
    assert len(found) == sum(len(family.rows) for family in reading.families)
    return found


def test_the_type_is_in_the_table() -> None:
    """The table finds settings and probe by name."""
    assert (TYPES["http"].load_settings(), TYPES["http"].load_probe()) == (HttpSettings, HttpProbe)


# verdicts


@pytest.mark.parametrize(("status", "expect"), [(200, ["2xx"]), (204, ["2xx"]), (404, [404]), (503, ["2xx", "503"]), (429, [429])])
async def test_an_expected_status_is_healthy(status: int, expect: list[object]) -> None:
    """Whatever is expected is good, also what would be bad elsewhere."""
    async with nothing_left(), serving(answering(status)) as target:
        reading = await check(target.url, expect_status=expect)
    assert reading.degraded is None
    assert reading.detail == {"status": status, "http_version": "1.1", "tls": False}


@pytest.mark.parametrize(
    ("status", "phrase", "retryable"),
    [
        (500, "500 Internal Server Error", True),
        (503, "503 Service Unavailable", True),
        (404, "404 Not Found", False),
        (401, "401 Unauthorized", False),
        (403, "403 Forbidden", False),
        (304, "304 Not Modified, expected 2xx", False),
        (599, "599", True),
    ],
)
async def test_another_status_is_http_status(status: int, phrase: str, retryable: bool) -> None:
    """Said in the standard's words, not the server's; only what may pass by itself is tried again."""

    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, reason="hunter2")

    async with nothing_left(), serving(handle) as target:
        error = await failure(f"{target.url}/health?key=hunter2")
    assert (error.reason, error.retryable) == (Reason.HTTP_STATUS, retryable)
    assert error.message == f"GET {target.place}/health: {phrase}"
    assert values(error.reading)["probe_http_status_code"] == status


async def test_every_expected_status_is_named() -> None:
    """A 200 that fails needs the reason why."""
    async with serving(answering(200)) as target:
        error = await failure(target.url, expect_status=[204, "3xx"])
    assert error.message == f"GET {target.place}/: 200 OK, expected 204 or 3xx"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"basic_auth": {"username": "u", "password": "hunter2"}}, Reason.AUTH),
        ({"bearer_token": "hunter2"}, Reason.AUTH),
        ({"headers": {"Authorization": "hunter2"}}, Reason.AUTH),
        ({"headers": {"X-Api-Key": "hunter2"}}, Reason.HTTP_STATUS),
    ],
)
async def test_refused_credentials_are_auth(keys: dict[str, object], reason: Reason) -> None:
    """After `auth` secrets in files are read again, so a rotated token heals by itself."""
    async with serving(answering(401)) as target:
        error = await failure(target.url, **keys)
    assert (error.reason, error.retryable) == (reason, False)
    assert "hunter2" not in error.message


async def test_credentials_are_sent() -> None:
    """In the URL or beside it."""
    async with serving(answering()) as target:
        await check(target.url.replace("//", "//u:p%40@"))
        await check(target.url, bearer_token="t")
    assert [asked.headers["authorization"] for asked in target.asked] == ["Basic dTpwQA==", "Bearer t"]


@pytest.mark.parametrize("status", [429, 418])
async def test_a_rate_limit_is_degraded(status: int) -> None:
    """The target answers and asks for less: the circuit waits for as long as it says."""
    async with nothing_left(), serving(answering(status, Retry_After="60")) as target:
        reading = await check(target.url)
    assert (reading.degraded, reading.retry_after_seconds) == (Reason.RATE_LIMITED, 60.0)
    assert reading.message == f"{status}, Retry-After 60s"
    assert values(reading)["probe_http_status_code"] == status


async def test_a_rate_limit_until_a_date() -> None:
    """The other form of Retry-After."""
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    async with serving(answering(429, Retry_After=moment)) as target:
        reading = await check(target.url)
    assert reading.retry_after_seconds is not None
    assert 60 < reading.retry_after_seconds <= 90


async def test_a_rate_limit_without_a_time() -> None:
    """The circuit's own wait holds then."""
    async with serving(answering(429, Retry_After="hunter2")) as target:
        reading = await check(target.url)
    assert (reading.retry_after_seconds, reading.message) == (None, "429, no Retry-After")


async def test_body_regexes() -> None:
    """A page that says "database down" with 200 is not healthy; and the target answers, so it is an assertion."""
    async with nothing_left(), serving(answering(body=b"state: hunter2")) as target:
        good = await check(target.url, body_regex="^state", not_body_regex="error")
        missing = await failure(target.url, body_regex="state: ok")
        unwanted = await failure(target.url, not_body_regex="hunter")
    assert isinstance(missing, AssertionFailed)
    assert missing.message == f"GET {target.place}/: body_regex is not found in the body"
    assert unwanted.message == f"GET {target.place}/: not_body_regex is found in the body"
    assert values(good)["probe_failed_due_to_regex"] == 0
    assert values(missing.reading)["probe_failed_due_to_regex"] == 1


async def test_a_bad_status_is_told_before_a_bad_body() -> None:
    """The error page of a 503 never matches."""
    async with serving(answering(503)) as target:
        error = await failure(target.url, body_regex="ok")
    assert error.reason is Reason.HTTP_STATUS
    assert values(error.reading)["probe_failed_due_to_regex"] == 0


async def test_a_compressed_body_is_searched_decompressed() -> None:
    """Some servers compress without being asked."""
    packed = gzip.compress(b"state: ok")
    async with serving(answering(body=packed, Content_Encoding="gzip")) as target:
        reading = await check(target.url, body_regex="state: ok")
    found = values(reading)
    assert (found["probe_http_content_length"], found["probe_http_uncompressed_body_length"]) == (len(packed), 9)


async def test_a_long_body_is_searched_at_its_beginning() -> None:
    """And its length, which was not seen, is absent."""
    async with nothing_left(), serving(answering(body=b"state: ok" + b"x" * 10 * 1024 * 1024 + b"end")) as target:
        reading = await check(target.url, body_regex="state: ok")
        error = await failure(target.url, body_regex="end")
    assert "probe_http_uncompressed_body_length" not in values(reading)
    assert error.message.endswith("as far as it was read")


async def test_head_and_post() -> None:
    """The method, the body and the header that says what it is."""
    async with nothing_left(), serving(answering(body=b"x" * 9)) as target:
        head = values(await check(target.url, method="HEAD"))
        await check(target.url, method="POST", body='{"a": 1}', headers={"Content-Type": "application/json"})
    assert (head["probe_http_content_length"], head["probe_http_uncompressed_body_length"]) == (9, 0)
    assert (target.asked[1].body, target.asked[1].headers["content-type"]) == (b'{"a": 1}', "application/json")


# series


async def test_series_of_a_plain_check() -> None:
    """blackbox's names; there is no TLS phase, no certificate and no 0 in place of either."""
    async with nothing_left(), serving(answering()) as target:
        found = values(await check(target.url))
    phases = {name: found.pop(f"probe_http_duration_seconds {name}") for name in ("resolve", "connect", "processing", "transfer")}
    assert sum(phases.values()) <= found.pop("probe_duration_seconds")
    assert found.pop("probe_dns_lookup_time_seconds") == phases["resolve"]
    assert found == {
        "probe_http_status_code": 200,
        "probe_http_version": 1.1,
        "probe_http_ssl": 0,
        "probe_http_redirects": 0,
        "probe_http_content_length": 5,
        "probe_http_uncompressed_body_length": 5,
        "probe_failed_due_to_regex": 0,
        "probe_ip_protocol": 4,
    }


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority for all tests here."""
    return Certificates(tmp_path_factory.mktemp("tls"))


async def test_series_and_facts_of_a_tls_check(certificates: Certificates) -> None:
    """The certificate's end for the alert, and in plain words for the page."""
    ends = datetime(2035, 6, 1, 12, 0, 30, tzinfo=UTC)
    async with (
        nothing_left(),
        serving(answering(), tls=certificates.server("localhost", not_after=ends), name="localhost") as target,
    ):
        reading = await check(target.url, tls={"ca_file": certificates.ca_file, "min_version": "TLS13"})
    found = values(reading)
    assert found["probe_ssl_earliest_cert_expiry"] == ends.timestamp()
    assert (found["probe_tls_version_info TLS 1.3"], found["probe_http_ssl"]) == (1, 1)
    assert found["probe_http_duration_seconds tls"] > 0
    assert reading.detail == {
        "status": 200,
        "http_version": "1.1",
        "tls": True,
        "tls_version": "TLS 1.3",
        "certificate_expires": "2035-06-01T12:00:30Z",
    }


async def test_redirects_add_up(certificates: Certificates) -> None:
    """The certificate is the last server's; the phases are those of the whole chain."""
    async with (
        serving(answering(), tls=certificates.server()) as last,
        serving(redirecting(lambda: last.url)) as target,
    ):
        reading = await check(target.url, tls={"ca_file": certificates.ca_file})
    found = values(reading)
    assert (found["probe_http_redirects"], found["probe_http_ssl"], reading.detail["redirects"]) == (1, 1, 1)
    assert "probe_ssl_earliest_cert_expiry" in found


async def test_a_redirect_that_is_not_followed() -> None:
    """It is judged as it is."""
    async with serving(redirecting("/new")) as target:
        assert (await check(target.url, follow_redirects=False, expect_status=302)).detail["status"] == 302
        error = await failure(target.url, follow_redirects=False)
    assert error.message == f"GET {target.place}/: 302 Found, expected 2xx"


async def test_a_failed_check_tells_what_it_read() -> None:
    """No connection: there is a duration and a lookup, and nothing pretends to be a status or a phase."""
    with closed_port() as port:
        error = await failure(f"http://{HOST}:{port}")
    found = values(error.reading)
    assert set(found) == {"probe_duration_seconds", "probe_http_duration_seconds resolve", "probe_dns_lookup_time_seconds"}
    assert error.reading is not None
    assert error.reading.detail == {}


async def test_a_redirect_to_a_dead_server_tells_how_far_it_got() -> None:
    """The status of the redirect is not the status of the target."""
    with closed_port() as port:
        async with serving(redirecting(f"http://{HOST}:{port}/?token=hunter2")) as target:
            error = await failure(target.url)
    found = values(error.reading)
    assert (error.reason, error.message) == (Reason.REFUSED, f"connect {HOST}:{port}: connection refused")
    assert found["probe_http_redirects"] == 1
    assert "probe_http_status_code" not in found
    assert "probe_http_duration_seconds processing" in found


async def test_garbage_tells_that_the_connection_was_made() -> None:
    """Something listens there, but it is not HTTP."""
    async with nothing_left(), saying(TEN_ZEROS) as port:
        error = await failure(f"http://{HOST}:{port}")
    assert error.reason is Reason.PROTOCOL
    assert "probe_http_duration_seconds connect" in values(error.reading)


def test_everything_declared_is_documented() -> None:
    """HELP names source and unit; names are unique and none is the engine's own."""
    names = [metric.name for metric in HttpSettings.model_validate({"type": "http", "url": "http://h"}).declared()]
    assert len(names) == len(set(names)) == 14
    assert all(metric.help.endswith(".") for metric in metrics.DECLARED)


# ending


@asynccontextmanager
async def hanging(where: str) -> AsyncIterator[int]:
    """A server that stops in the middle."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b"x" * 100
    async with silent() if where == "answer" else dripping(answer, 0.01) as port:
        yield port


@pytest.mark.parametrize("where", ["answer", "body"])
async def test_drop_ends_a_check_whose_cancel_is_swallowed(where: str) -> None:
    """What the engine calls after a deadline closes the socket, whether or not the task ever notices."""
    async with nothing_left(), hanging(where) as port:
        subject = probe(f"http://{HOST}:{port}")
        phases = phase.begin()
        task = asyncio.create_task(subject.check())
        await eventually(lambda: phases.innermost[0].endswith("/" if where == "answer" else "body"), 5)
        subject.drop(CHECK)
        await asyncio.wait([task], timeout=1)
        assert isinstance(task.exception(), ProbeError)


async def test_a_dropped_probe_checks_again() -> None:
    """The drop was of that run alone."""
    async with nothing_left(), serving(answering()) as target:
        subject = probe(target.url)
        subject.drop(CHECK)
        assert (await subject.check()).degraded is None
        await subject.aclose()


async def test_a_cancelled_check_leaves_nothing() -> None:
    """Reload and shutdown cancel."""
    async with nothing_left(within=1):
        async with hanging("body") as port:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await probe(f"http://{HOST}:{port}").check()


@pytest.mark.parametrize("handler", [answering(500), answering(429), answering(401), redirecting("/?x=hunter2")])
async def test_no_secret_is_shown(handler: Handler) -> None:
    """Neither by the message, nor by the facts, nor by the probe itself."""
    async with serving(handler) as target:
        url = target.url.replace("//", "//hunter2:hunter2@") + "/?token=hunter2"
        subject = probe(url, headers={"X-Key": "hunter2"}, method="POST", body="hunter2")
        try:
            reading = await subject.check()
            shown = f"{reading}"
        except ProbeError as error:
            shown = f"{error} {error.reading}"
    assert "hunter2" not in shown + repr(subject) + repr(vars(subject))


async def test_unusable_tls_files_are_config(tmp_path: Path) -> None:
    """The operator's mistake, named by its key; the target is not blamed for it."""
    async with serving(answering(), tls=Certificates(tmp_path).server(client=ssl.CERT_NONE)) as target:
        error = await failure(target.url, tls={"ca_file": str(tmp_path / "missing.pem")})
    assert error.reason is Reason.CONFIG
    assert "tls.ca_file" in error.message
