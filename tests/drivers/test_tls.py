"""TLS contexts: what they verify, and the message when a file cannot be used."""

import ssl
from pathlib import Path

import pytest
import trustme

from exporter.drivers.tls import Tls, client_context, describe
from exporter.errors import ProbeError
from exporter.model import Reason


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def test_verifies_names_and_certificates_by_default(ca_file: str) -> None:
    """Safe without a word in the configuration; at least TLS 1.2."""
    context = client_context(Tls(ca_file=ca_file))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1


def test_trusts_the_system_without_a_ca_file() -> None:
    """A public certificate needs no configuration."""
    context = client_context(Tls())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509"] > 0


def test_skips_all_verification_only_when_told() -> None:
    """insecure_skip_verify is for the name and for the chain."""
    context = client_context(Tls(insecure_skip_verify=True))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_can_verify_the_chain_but_not_the_name(ca_file: str) -> None:
    """libpq's verify-ca."""
    context = client_context(Tls(ca_file=ca_file), check_hostname=False)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_min_version_is_obeyed() -> None:
    """Whoever asks for TLS 1.3 gets no less."""
    assert client_context(Tls(min_version="TLS13")).minimum_version is ssl.TLSVersion.TLSv1_3


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    """The operator must know which of several files is meant."""
    path = tmp_path / "gone.pem"
    with pytest.raises(ProbeError, match=f"^tls.ca_file {path}: no such file or directory$") as caught:
        client_context(Tls(ca_file=str(path)))
    assert (caught.value.reason, caught.value.retryable) == (Reason.CONFIG, False)


def test_a_ca_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    """Such as a key, or an empty file of a volume that is not ready."""
    path = tmp_path / "empty.pem"
    path.write_text("nothing\n")
    with pytest.raises(ProbeError, match=f"^tls.ca_file {path}: no usable PEM"):
        client_context(Tls(ca_file=str(path)))


def test_a_client_certificate_with_the_wrong_key_is_named(authority: trustme.CA, tmp_path: Path) -> None:
    """A half-rotated pair."""
    for name in ("one", "two"):
        issued = authority.issue_cert(f"{name}.test")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    with pytest.raises(ProbeError, match=r"one\.crt, tls\.key_file .*two\.key: no usable PEM \(key values mismatch\)"):
        client_context(Tls(insecure_skip_verify=True, cert_file=str(tmp_path / "one.crt"), key_file=str(tmp_path / "two.key")))


def test_an_encrypted_key_is_refused_without_a_question(authority: trustme.CA, tmp_path: Path) -> None:
    """OpenSSL would ask the terminal for the password, and wait."""
    issued = authority.issue_cert("one.test")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBvTBX\n-----END ENCRYPTED PRIVATE KEY-----\n"
    (tmp_path / "key").write_text(encrypted)
    with pytest.raises(ProbeError, match="no usable PEM"):
        client_context(Tls(cert_file=str(tmp_path / "crt"), key_file=str(tmp_path / "key")))


def test_a_key_alone_is_refused(tmp_path: Path) -> None:
    """It would silently do nothing."""
    with pytest.raises(ProbeError, match=r"needs tls\.cert_file"):
        client_context(Tls(key_file=str(tmp_path / "key")))


def test_openssl_is_quoted_without_its_source_line() -> None:
    """`(_ssl.c:1006)` helps no operator."""
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    error.reason = "WRONG_VERSION_NUMBER"
    assert describe(error) == "wrong version number"
