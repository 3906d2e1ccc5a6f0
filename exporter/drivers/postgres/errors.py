"""What went wrong, in our words: asyncpg's and the system's exceptions to a ProbeError, once for the driver.

Of a server's error only the SQLSTATE and the primary message go on, with quoted literals replaced. Knows no query and no
configuration. SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from asyncpg.pgproto import pgproto

from exporter.drivers.system import of_the_system, problem
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import without_literals

_BY_CODE = {
    "08P01": Reason.PROTOCOL,  # also what PgBouncer says of most of its own troubles
    "0A000": Reason.UNSUPPORTED,
    "25P03": Reason.TIMEOUT,  # idle_in_transaction_session_timeout
    "25P04": Reason.TIMEOUT,  # transaction_timeout, since PostgreSQL 17
    "3D000": Reason.FORBIDDEN,  # no such database: as a wrong virtual host elsewhere
    "40001": Reason.NOT_READY,  # a standby cancelled us for recovery
    "42501": Reason.FORBIDDEN,
    "55000": Reason.UNSUPPORTED,  # a function that this server's state or its extensions do not allow
    "55P03": Reason.TIMEOUT,  # lock_timeout
    "57014": Reason.TIMEOUT,  # statement_timeout
    "57P01": Reason.NOT_READY,  # shutting down
    "57P02": Reason.NOT_READY,  # another backend crashed
    "57P03": Reason.NOT_READY,  # starting up, shutting down or in recovery
    "57P04": Reason.FORBIDDEN,  # the database was dropped
    "57P05": Reason.RESET,  # idle_session_timeout, since PostgreSQL 14
}
_BY_CLASS = {
    "08": Reason.UNREACHABLE,
    "28": Reason.AUTH,
    "53": Reason.OVERLOAD,
    "58": Reason.NOT_READY,
    "XX": Reason.NOT_READY,
}

STUMBLES = (asyncpg.InternalClientError, AttributeError, LookupError, OverflowError, TypeError, ValueError, pgproto.BufferError)
"""What asyncpg's parser raises on messages that are well framed but nonsense inside, or that come when nobody asked."""


def translate(error: BaseException, where: str = "") -> ProbeError | None:
    """The ProbeError for an exception of asyncpg, of TLS or of the system; None for anything else, which is our own bug.

    `where` says what was done and where: `connect 10.0.0.7:5432`.
    """
    for cause in _causes(error):
        if isinstance(cause, ProbeError):
            return cause
        if isinstance(cause, asyncpg.PostgresError) and not isinstance(cause, asyncpg.ConnectionDoesNotExistError):
            return _refusal(cause, where)
    return of_the_system(error, where) or _of_asyncpg(error, where)


def _of_asyncpg(error: BaseException, where: str) -> ProbeError | None:
    if isinstance(error, asyncpg.PostgresError):
        return problem(Reason.RESET, where, "connection closed by the server")
    if isinstance(error, asyncpg.InterfaceError):
        return _unusable(error, where)
    if isinstance(error, STUMBLES) and _raised_by_asyncpg(error):
        return problem(Reason.PROTOCOL, where, "not the PostgreSQL protocol: a message cannot be read")
    return None


def _raised_by_asyncpg(error: BaseException) -> bool:
    """Whether it comes from inside asyncpg: the same exception raised by us is our own bug."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and "asyncpg" in Path(frames[-1][0].f_code.co_filename).parts


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns exceptions of the driver inside the block into ProbeErrors that say `where`."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, *STUMBLES) as error:
        told = translate(error, where)
        if told is None:
            raise
        raise told from (told.__cause__ if told is error.__cause__ else error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what asyncpg says it comes from: a connection lost because of something names it so."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _refusal(error: asyncpg.PostgresError, where: str) -> ProbeError:
    code = error.sqlstate or ""
    reason = _BY_CODE.get(code) or _BY_CLASS.get(code[:2]) or Reason.CONFIG
    primary = without_literals(str(getattr(error, "message", None) or ""))
    # what ran into our own timeout is not begun anew: the server has just spent that long on it
    retryable = False if reason is Reason.TIMEOUT else None
    return problem(reason, where, f"{code} {primary}", retryable=retryable)


def _unusable(error: asyncpg.InterfaceError, where: str) -> ProbeError:
    text = str(error)
    if "SCRAM" in text:
        return problem(Reason.AUTH, where, "the server could not prove that it knows the password")
    if "authentic" in text.lower() or "gssapi" in text:
        return problem(
            Reason.UNSUPPORTED, where, "no way to log in that both know; ours are scram-sha-256, md5, password, certificate"
        )
    return problem(Reason.RESET, where, "connection closed")
