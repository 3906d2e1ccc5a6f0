"""What the operating system and TLS say of a connection, as a ProbeError: once for all drivers that speak over a socket.

Knows no driver package; each driver's `translate` asks here when the error is not its own.
"""

import errno
import os
import ssl

from exporter.drivers.tls import describe
from exporter.errors import MESSAGE_LENGTH, ProbeError
from exporter.model import Reason
from exporter.secret import one_line

_BY_ERRNO = {
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.ENOENT: Reason.REFUSED,  # a Unix socket that is not there
    errno.ECONNRESET: Reason.RESET,
    errno.ECONNABORTED: Reason.RESET,
    errno.EPIPE: Reason.RESET,
    errno.EACCES: Reason.FORBIDDEN,
    errno.EPERM: Reason.FORBIDDEN,
}


def problem(reason: Reason, where: str, what: str, *, retryable: bool | None = None) -> ProbeError:
    """The error whose message is `where: what`, on one line and no longer than a message may be."""
    return ProbeError(reason, one_line(f"{where}: {what}" if where else what, MESSAGE_LENGTH), retryable=retryable)


def of_the_system(error: BaseException, where: str, peer: str = "server") -> ProbeError | None:
    """The ProbeError for ssl.SSLError, TimeoutError and OSError, else None. `peer` is what the other side is called."""
    if isinstance(error, ssl.SSLError):
        return problem(Reason.TLS, where, describe(error))
    if isinstance(error, TimeoutError):
        return problem(Reason.TIMEOUT, where, "timed out")
    if not isinstance(error, OSError):
        return None
    if error.errno is None and isinstance(error, ConnectionError):
        return problem(Reason.RESET, where, f"connection closed by the {peer}")
    text = os.strerror(error.errno).lower() if error.errno else type(error).__name__
    return problem(_BY_ERRNO.get(error.errno or 0, Reason.UNREACHABLE), where, text)
