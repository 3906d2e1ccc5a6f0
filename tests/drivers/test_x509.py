"""Reading the end of a certificate from its DER."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from exporter.demo.servers import HOST
from exporter.drivers.x509 import earliest_expiry, not_after

AUTHORITY = trustme.CA()


def _der(end: datetime) -> bytes:
    leaf = AUTHORITY.issue_cert("localhost", not_before=datetime(2000, 1, 1, tzinfo=UTC), not_after=end)
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    assert certificate.not_valid_after_utc == end
    return certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "end",
    [
        datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC),
        datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),  # the last UTCTime (RFC 5280, section 4.1.2.5)
        datetime(2050, 1, 1, tzinfo=UTC),  # the first GeneralizedTime
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),  # "no well-defined expiration date"
    ],
)
def test_both_forms_of_time_are_read(end: datetime) -> None:
    """Two-digit years until 2049, four digits from then on."""
    assert not_after(_der(end)) == end.timestamp()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_have_no_end(data: bytes) -> None:
    """With insecure_skip_verify anything may come; it must neither raise nor look like a date."""
    assert not_after(data) is None


@given(st.data())
def test_a_damaged_certificate_never_raises(data: st.DataObject) -> None:
    """Each byte may be another one."""
    damaged = bytearray(_DER)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    not_after(bytes(damaged))
    not_after(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


_DER = _der(datetime(2030, 1, 1, tzinfo=UTC))


async def test_the_earliest_end_of_all_that_the_server_sent(tmp_path: Path) -> None:
    """An intermediate that ends first takes the service down just as well."""
    now = datetime.now(UTC).replace(microsecond=0)
    own = AUTHORITY.issue_cert(HOST, not_after=now + timedelta(days=90))
    sooner = AUTHORITY.issue_cert("intermediate", not_after=now + timedelta(days=10))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(own.private_key_and_cert_chain_pem.bytes() + sooner.cert_chain_pems[0].bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    async with await asyncio.start_server(lambda _r, w: w.close(), HOST, 0, ssl=context) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client)
        assert earliest_expiry(writer.get_extra_info("ssl_object")) == (now + timedelta(days=10)).timestamp()
        writer.transport.abort()
