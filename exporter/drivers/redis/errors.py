"""What went wrong, in our words: a server's refusals, redis-py's exceptions and the system's to a ProbeError, once for the driver.

Of a refusal only the code word and the primary message go on, with quoted literals replaced: old servers repeat the
arguments of a command they do not know, a password among them. Knows no command and no configuration.
"""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import exceptions

from exporter.drivers.system import of_the_system, problem
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import HIDDEN, without_literals

# The code word of a refusal (src/server.c, createSharedObjects, Redis 7.0); ERR is looked up in _BY_TEXT.
_BY_CODE = {
    "ASK": Reason.CONFIG,  # the key is on another node of the cluster
    "BUSY": Reason.NOT_READY,  # a script or function runs, and nothing else
    "CLUSTERDOWN": Reason.NOT_READY,
    "DENIED": Reason.FORBIDDEN,  # protected mode: a server without a password answers its own machine only
    "LOADING": Reason.NOT_READY,
    "MASTERDOWN": Reason.NOT_READY,  # replica-serve-stale-data no
    "MISCONF": Reason.NOT_READY,  # RDB snapshots fail, so writes are refused
    "MOVED": Reason.CONFIG,
    "NOAUTH": Reason.AUTH,
    "NOPERM": Reason.FORBIDDEN,
    "NOPROTO": Reason.UNSUPPORTED,
    "NOREPLICAS": Reason.NOT_READY,  # min-replicas-to-write
    "OOM": Reason.OVERLOAD,
    "READONLY": Reason.NOT_READY,
    "TRYAGAIN": Reason.NOT_READY,  # a slot of the cluster is on its way
    "UNKILLABLE": Reason.NOT_READY,
    "WRONGPASS": Reason.AUTH,
    "WRONGTYPE": Reason.CONFIG,
}
_BY_TEXT = (
    (re.compile(r"max number of clients"), Reason.OVERLOAD),
    (re.compile(r"invalid password|no password is set|without any password configured|operation not permitted"), Reason.AUTH),
    (re.compile(r"unknown (sub)?command", re.IGNORECASE), Reason.UNSUPPORTED),
)

STUMBLES = (exceptions.InvalidResponse, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What redis-py's parsers raise on replies that are well framed but nonsense inside."""

_PACKAGE = Path(exceptions.__file__).parent

_CODE = re.compile(r"([A-Z][A-Z0-9]{1,30})(?: (.*))?", re.DOTALL)
_BACKTICKED = re.compile(r"`[^`]*`")  # how Redis 5 quotes the arguments it repeats
_BEYOND = re.compile(r",? (with args beginning with|otherwise the HELLO).*", re.DOTALL)  # our arguments; a lesson in HELLO


class Refusal(exceptions.ResponseError):
    """A server's answer that begins with `-`. `code` is its first word where that is one, else ERR; `text` is the rest."""

    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        match = _CODE.fullmatch(answer)
        self.code = match[1] if match else "ERR"
        self.text = (match[2] or "") if match else answer

    @property
    def reason(self) -> Reason:
        """Why, by the code word; an ERR that we do not know is a command that was wrong for this server."""
        if self.code != "ERR":
            return _BY_CODE.get(self.code, Reason.CONFIG)
        return next((reason for pattern, reason in _BY_TEXT if pattern.search(self.text)), Reason.CONFIG)

    @property
    def told(self) -> str:
        """Code and primary message, without anything that may be an argument of ours or a value of theirs."""
        primary = _BEYOND.sub("", without_literals(_BACKTICKED.sub(HIDDEN, self.text)))
        return f"{self.code} {primary}".rstrip()


def translate(error: BaseException, where: str = "") -> ProbeError | None:
    """The ProbeError for an exception of redis-py, of TLS or of the system; None for anything else, which is our own bug.

    `where` says what was done and where: `connect 10.0.0.7:6379`.
    """
    if isinstance(error, ProbeError):
        return error
    if isinstance(error, Refusal):
        return problem(error.reason, where, error.told)
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
        return _lost(error, where)
    if isinstance(error, STUMBLES) and _raised_by_redis(error):
        return problem(Reason.PROTOCOL, where, "not the Redis protocol: a reply cannot be read")
    return of_the_system(error, where)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns exceptions of the driver inside the block into ProbeErrors that say `where`."""
    try:
        yield
    except (exceptions.RedisError, OSError, *STUMBLES) as error:
        told = translate(error, where)
        if told is None:
            raise
        raise told from error


def _lost(error: BaseException, where: str) -> ProbeError:
    """redis-py drops the system's error number; it is still there as the exception that it handled."""
    told = of_the_system(error.__context__, where) if error.__context__ is not None else None
    return told or problem(Reason.RESET, where, "connection closed by the server")


def _raised_by_redis(error: BaseException) -> bool:
    """Whether it came through redis-py: the same exception raised by us is our own bug."""
    if isinstance(error, exceptions.RedisError):
        return True
    files = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
    return any(Path(file).is_relative_to(_PACKAGE) for file in files)
