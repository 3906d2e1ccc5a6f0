"""What went wrong, in our words: the broker's codes, aiormq's and the system's exceptions to a ProbeError, once for the driver.

Of a broker's refusal only its own line goes on, with quoted names replaced. Knows no queue of ours and no configuration.
Reply codes: https://www.rabbitmq.com/amqp-0-9-1-reference.html, "Constants".
"""

import asyncio
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from aiormq import exceptions as aiormq

from exporter.drivers.system import of_the_system, problem
from exporter.errors import MESSAGE_LENGTH, AssertionFailed, ProbeError
from exporter.model import Reason
from exporter.secret import one_line, without_literals

ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406

_BY_CODE = {
    312: Reason.ASSERTION,  # NO_ROUTE: a mandatory message that no queue wanted
    320: Reason.NOT_READY,  # CONNECTION_FORCED: shutting down, or closed by an operator
    402: Reason.FORBIDDEN,  # INVALID_PATH: no such virtual host, before RabbitMQ 3.2
    ACCESS_REFUSED: Reason.FORBIDDEN,
    RESOURCE_LOCKED: Reason.FORBIDDEN,  # an exclusive queue of another connection
    PRECONDITION_FAILED: Reason.CONFIG,  # it is there, but made otherwise
    501: Reason.PROTOCOL,
    502: Reason.PROTOCOL,
    503: Reason.PROTOCOL,
    504: Reason.PROTOCOL,
    505: Reason.PROTOCOL,
    506: Reason.OVERLOAD,  # RESOURCE_ERROR
    530: Reason.FORBIDDEN,  # NOT_ALLOWED: no such virtual host, or no access to it
    540: Reason.UNSUPPORTED,
    541: Reason.NOT_READY,  # INTERNAL_ERROR; also a virtual host that is down
}
# "vhost connection limit (1) is reached", and so for a user's and a node's; a 530 since RabbitMQ 3.6, 3.8 and 3.9
_OVER_LIMIT = "limit"

_CHANNEL_CODES: dict[type[BaseException], int] = {
    aiormq.ChannelAccessRefused: ACCESS_REFUSED,
    aiormq.ChannelNotFoundEntity: NOT_FOUND,
    aiormq.ChannelLockedResource: RESOURCE_LOCKED,
    aiormq.ChannelPreconditionFailed: PRECONDITION_FAILED,
}

STUMBLES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What aiormq and pamqp raise on frames that are well framed but nonsense inside, or when used after their end."""

_CAUGHT = (aiormq.AMQPError, OSError, *STUMBLES)


class NotFound(AssertionFailed):
    """The broker answers, but has no such queue or exchange."""


class Blocked(ProbeError):
    """The broker takes no messages for now, by its own word (an alarm); the session is good, and goes on when it is over."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.BLOCKED, message)


class Stage(IntEnum):
    """How far a connection has come; what the broker's refusal means depends on it."""

    GREETING = 0
    LOGIN = 1
    OPENING = 2
    OPEN = 3


@dataclass(frozen=True, slots=True)
class Refusal:
    """The broker's Connection.Close."""

    code: int
    text: str


class Heard(Protocol):
    """What a connection has heard of the broker, beside what aiormq makes of it."""

    stage: Stage
    refusal: Refusal | None
    garbled: ProbeError | None


def translate(error: BaseException, where: str = "", heard: Heard | None = None) -> ProbeError | None:
    """The ProbeError for an exception of aiormq, of TLS or of the system; None for anything else, which is our own bug.

    `where` says what was done and where: `connect 10.0.0.7:5672`. What the connection has `heard` counts more than the exception.
    """
    if isinstance(error, ProbeError):
        return error
    if heard is not None and heard.garbled is not None:
        return heard.garbled
    if heard is not None and heard.refusal is not None:
        return _refused(heard.refusal, heard.stage, where)
    return _of_the_broker(error, where) or _of_aiormq(error, where) or of_the_system(error, where, "broker")


def _refused(refusal: Refusal, stage: Stage, where: str) -> ProbeError:
    if refusal.code == ACCESS_REFUSED and stage <= Stage.LOGIN:
        return problem(Reason.AUTH, where, refusal.text)
    return _by_code(refusal.code, refusal.text, where)


def _by_code(code: int, text: str, where: str) -> ProbeError:
    if code == NOT_FOUND:
        return NotFound(_message(where, text))
    if code == 530 and _OVER_LIMIT in text:
        return problem(Reason.OVERLOAD, where, text)
    return problem(_BY_CODE.get(code, Reason.RESET), where, text)


def _of_the_broker(error: BaseException, where: str) -> ProbeError | None:
    """Its refusal of one operation."""
    if isinstance(error, aiormq.PublishError):
        return problem(Reason.ASSERTION, where, "returned: no queue takes it")
    if isinstance(error, aiormq.DeliveryError):
        return problem(Reason.OVERLOAD, where, "the broker could not take the message")
    if isinstance(error, aiormq.ProbableAuthenticationError):
        return problem(Reason.AUTH, where, _text_of(error))
    if isinstance(error, aiormq.ChannelClosed):
        code = _CHANNEL_CODES.get(type(error)) or next((arg for arg in error.args if isinstance(arg, int)), 0)
        return _by_code(code, _text_of(error) or "channel closed", where)
    return None


def _of_aiormq(error: BaseException, where: str) -> ProbeError | None:
    if isinstance(error, aiormq.AuthenticationError):
        return problem(Reason.UNSUPPORTED, where, "no way to log in that both know; ours is PLAIN")
    if isinstance(error, aiormq.ProtocolSyntaxError | aiormq.IncompatibleProtocolError):
        return problem(Reason.PROTOCOL, where, "not the AMQP 0-9-1 protocol: an unexpected frame")
    if isinstance(error, aiormq.ChannelInvalidStateError | aiormq.AMQPError):
        return problem(Reason.RESET, where, "connection closed by the broker")
    if isinstance(error, STUMBLES) and _raised_by_a_package(error):
        # aiormq says that it has been closed by a bare RuntimeError
        closed = type(error) is RuntimeError
        what = "connection closed" if closed else "not the AMQP 0-9-1 protocol: a frame cannot be read"
        return problem(Reason.RESET if closed else Reason.PROTOCOL, where, what)
    return None


def _raised_by_a_package(error: BaseException) -> bool:
    """Whether it comes from inside aiormq or pamqp: the same exception raised by us is our own bug."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and not {"aiormq", "pamqp"}.isdisjoint(Path(frames[-1][0].f_code.co_filename).parts)


@contextmanager
def translated(where: str | Callable[[], str], heard: Heard | None = None) -> Iterator[None]:
    """Turns exceptions of the driver inside the block into ProbeErrors that say `where`, a callable asked when it is needed."""
    try:
        yield
    except asyncio.CancelledError as error:
        # aiormq cancels whoever waits for a connection that it has given up: nobody has asked us to stop
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise _told(ConnectionResetError(), where, heard) or error from error
    except _CAUGHT as error:
        told = _told(error, where, heard)
        if told is None:
            raise
        raise told from error


def _told(error: BaseException, where: str | Callable[[], str], heard: Heard | None) -> ProbeError | None:
    return translate(error, where if isinstance(where, str) else where(), heard)


def _text_of(error: BaseException) -> str:
    return " ".join(arg for arg in error.args if isinstance(arg, str))


def _message(where: str, what: str) -> str:
    what = without_literals(what)
    return one_line(f"{where}: {what}" if where else what, MESSAGE_LENGTH)
