"""TLS contexts for every driver, made from files that the configuration names. Knows no driver and no settings class."""

import ssl
from dataclasses import dataclass

from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import one_line

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_LENGTH = 120


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS to a target; the fields are those of the configuration's `tls:`. Files are PEM.

    `server_name` is verified, and sent as SNI, instead of the host that is dialled.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False
    min_version: str = "TLS12"


def client_context(tls: Tls, *, check_hostname: bool = True) -> ssl.SSLContext:
    """A context for a connection to a target; verifies against `ca_file`, or the system's certificates without one.

    Reads the files anew each time, so a rotated certificate takes effect with the next connection. Looks at no HOME.

    Raises:
        ProbeError: reason config; a file cannot be used, and the message names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.check_hostname = check_hostname and not tls.insecure_skip_verify
    if tls.insecure_skip_verify:
        context.verify_mode = ssl.CERT_NONE
    else:
        _trust(context, tls.ca_file)
    if tls.cert_file is not None:
        _identify(context, tls.cert_file, tls.key_file)
    elif tls.key_file is not None:
        raise ProbeError(Reason.CONFIG, f"tls.key_file {tls.key_file}: needs tls.cert_file beside it")
    return context


def _trust(context: ssl.SSLContext, ca_file: str | None) -> None:
    if ca_file is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:
        raise ProbeError(Reason.CONFIG, f"tls.ca_file {ca_file}: {_why(error)}") from error


def _identify(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    try:
        # the empty password keeps OpenSSL from asking the terminal for one
        context.load_cert_chain(cert_file, key_file, password="")
    except OSError as error:
        files = f"tls.cert_file {cert_file}" + (f", tls.key_file {key_file}" if key_file else "")
        raise ProbeError(Reason.CONFIG, f"{files}: {_why(error)}") from error


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no usable PEM ({describe(error)})"
    return (error.strerror or type(error).__name__).lower()


def describe(error: ssl.SSLError) -> str:
    """What went wrong, in OpenSSL's words but without its source file and line."""
    reason = (error.reason or "TLS error").replace("_", " ").lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        return one_line(f"{reason}: {error.verify_message}", _LENGTH)
    return reason
