"""Says what a run is waiting for, so that its deadline can name it. Knows no clock and no network.

A driver marks each wait; when the engine's deadline comes, it reads the innermost mark that is still open:

    with waiting("resolve db.internal", Reason.DNS):
        addresses = await resolve("db.internal")
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from exporter.model import Reason


@dataclass(slots=True)
class Phases:
    """The open marks of one run, outermost first; mutable, owned by the run."""

    open: list[tuple[str, Reason]] = field(default_factory=list)

    @property
    def innermost(self) -> tuple[str, Reason]:
        """What is waited for, and the reason that a deadline passing now would have."""
        return self.open[-1] if self.open else ("", Reason.TIMEOUT)


_CURRENT: ContextVar[Phases | None] = ContextVar("phases", default=None)


def begin() -> Phases:
    """Starts a fresh record for the task that calls; its children share it."""
    phases = Phases()
    _CURRENT.set(phases)
    return phases


@contextmanager
def waiting(what: str, reason: Reason = Reason.TIMEOUT) -> Iterator[None]:
    """Marks what is waited for inside the block: a safe text such as `connect 10.0.0.7:5432`."""
    phases = _CURRENT.get()
    if phases is None:
        yield
        return
    mark = (what, reason)
    phases.open.append(mark)
    try:
        yield
    finally:
        phases.open.remove(mark)
