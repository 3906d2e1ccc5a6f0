"""TLS by the HTTP driver: certificates of either side that are wrong, missing, or renewed."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exporter.demo.servers import HOST
from exporter.drivers.dns import Resolver
from exporter.drivers.http import Client, Hop, Request
from exporter.drivers.kept import Lease
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import CHECK, Reason
from exporter.secret import Secret
from tests.faults import TEN_ZEROS, saying_over_tls
from tests.http_client import failure, fetch
from tests.http_targets import Certificates, answering, serving, serving_by_openssl
from tests.servers import nothing_left


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
