"""The error tree.

    ExporterError
    ├── ConfigError            the configuration cannot be used; carries every problem with its place
    └── ProbeError             a run failed: a Reason and a message that is safe to show
        ├── (made by a driver's translate(), once for each driver)
        └── AssertionFailed    the target answers, but not what was asked for

Knows nothing of drivers. A message is one line: what happened and where, never a secret, a whole DSN or a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.model import Reading, Reason

MESSAGE_LENGTH = 200
"""The most characters of a message that leave this process."""

_RETRYABLE = frozenset(
    {
        Reason.TIMEOUT,
        Reason.REFUSED,
        Reason.RESET,
        Reason.UNREACHABLE,
        Reason.DNS,
        Reason.OVERLOAD,
        Reason.NOT_READY,
        Reason.PROTOCOL,
    }
)


class ExporterError(Exception):
    """Base of all errors raised on purpose."""


class ProbeError(ExporterError):
    """A run failed for `reason`; `message` is one safe line.

    `reading` is what had been read before it failed. `retryable` says whether a second attempt within the same run can
    help; by default it follows from the reason.
    """

    def __init__(self, reason: Reason, message: str, *, reading: Reading | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.reading = reading
        self.retryable = reason in _RETRYABLE if retryable is None else retryable


class AssertionFailed(ProbeError):
    """The target answers, but not what was asked for."""

    def __init__(self, message: str, *, reading: Reading | None = None) -> None:
        super().__init__(Reason.ASSERTION, message, reading=reading)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration.

    `place` is `file:line:column` (both from 1), or the name of an environment variable, or empty; `path` the dotted path
    such as `probes.db.interval`, or empty; `message` says what is wrong and what is allowed.
    """

    place: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.path, self.message) if part)


class ConfigError(ExporterError):
    """The configuration cannot be used; `problems` holds every one found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
