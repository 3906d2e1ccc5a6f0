"""Says what a run is waiting for, so that its deadline can name it, and what it has waited for, so that a failure can tell
where its time went. Knows no clock, but for the one it is given, and no network.

A driver marks each wait; when the engine's deadline comes, it reads the innermost mark that is still open:

    with waiting("resolve db.internal", Reason.DNS):
        addresses = await resolve("db.internal")
"""

from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import NamedTuple

from exporter.model import Phase, Reason

KEPT = 8
"""Waits of a run that are remembered, the last ones: resolve, connect, TLS, log-in and some commands; retries repeat them."""


class Mark(NamedTuple):
    """One wait; `number` tells it from its like and puts it in order."""

    number: int
    what: str
    reason: Reason
    began: float


class Phases:
    """The marks of one run, open ones outermost first; mutable, owned by the run. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers = count()
        self._open: list[Mark] = []
        self._closed: deque[tuple[int, Phase]] = deque(maxlen=KEPT)

    @property
    def innermost(self) -> tuple[str, Reason]:
        """What is waited for, and the reason that a deadline passing now would have."""
        return (self._open[-1].what, self._open[-1].reason) if self._open else ("", Reason.TIMEOUT)

    @property
    def past(self) -> tuple[Phase, ...]:
        """The last waits in the order in which they began; one that is still open lasts until now."""
        waits = sorted([*self._closed, *map(self._timed, self._open)])
        return tuple(phase for _, phase in waits[-KEPT:])

    def enter(self, what: str, reason: Reason) -> Mark:
        mark = Mark(next(self._numbers), what, reason, self._clock())
        self._open.append(mark)
        return mark

    def leave(self, mark: Mark) -> None:
        self._open.remove(mark)
        self._closed.append(self._timed(mark))

    def _timed(self, mark: Mark) -> tuple[int, Phase]:
        return mark.number, Phase(mark.what, self._clock() - mark.began)


_CURRENT: ContextVar[Phases | None] = ContextVar("phases", default=None)


def begin(clock: Callable[[], float] = float) -> Phases:
    """Starts a fresh record for the task that calls; its children share it. Without a clock, waits are named but take 0 s."""
    phases = Phases(clock)
    _CURRENT.set(phases)
    return phases


class Waiting:
    """What is waited for inside a `with` block."""

    __slots__ = ("_mark", "_phases", "_reason", "_what")

    def __init__(self, what: str, reason: Reason) -> None:
        self._what = what
        self._reason = reason

    def __enter__(self) -> None:
        self._phases = _CURRENT.get()
        if self._phases is not None:
            self._mark = self._phases.enter(self._what, self._reason)

    def __exit__(self, *_: object) -> None:
        if self._phases is not None:
            self._phases.leave(self._mark)


def waiting(what: str, reason: Reason = Reason.TIMEOUT) -> Waiting:
    """Marks what is waited for inside the block: a safe text such as `connect 10.0.0.7:5432`."""
    return Waiting(what, reason)
