"""Decides when a target rests. Knows no clock and no network: `now` and randomness are passed in.

It stretches a probe's schedule and drops its retries; it never hides a state. It counts checks, not attempts. Mutable, owned
by the probe's loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from exporter.model import CircuitState, CircuitStatus

CLOSED = CircuitStatus(CircuitState.CLOSED)
Transition = tuple[CircuitState, CircuitState]

LEGAL: tuple[Transition, ...] = (
    (CircuitState.CLOSED, CircuitState.OPEN),
    (CircuitState.OPEN, CircuitState.HALF_OPEN),
    (CircuitState.HALF_OPEN, CircuitState.CLOSED),
    (CircuitState.HALF_OPEN, CircuitState.OPEN),
    (CircuitState.CLOSED, CircuitState.FORCED_OPEN),
    (CircuitState.OPEN, CircuitState.FORCED_OPEN),
    (CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN),
    (CircuitState.FORCED_OPEN, CircuitState.HALF_OPEN),
)


class Verdict(Enum):
    """What a check means to the circuit."""

    ANSWERED = auto()
    """Success, degraded or a failed assertion: the target answers."""
    FAILED = auto()
    LIMITED = auto()
    """The target asks us to keep away (HTTP 429, 418)."""
    NEUTRAL = auto()
    """Cancelled, or an error of our own: says nothing about the target."""


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """Seconds and counts of one probe's circuit.

    open_after: failed checks in a row that open it. close_after: good trials that close it.
    interval_seconds: the first wait, doubled with each failed trial. max_wait_seconds: no wait is longer, but for a
    Retry-After, which is obeyed up to max_retry_after_seconds. confirm_seconds: from the end of one trial to the next.
    """

    interval_seconds: float
    open_after: int
    close_after: int
    max_wait_seconds: float
    max_retry_after_seconds: float
    confirm_seconds: float


class Lease:
    """The right to one check, from `Circuit.begin` to `Circuit.record`."""


class Circuit:
    """State machine of one probe: closed → open → half_open → closed, and forced_open where an operator says so.

    A check begins with `begin` and ends with `record`. There is one lease at a time, so never two checks; one that began in another
    state than the present one says nothing: `record` takes it back and changes no state. `moved` is told of every transition as
    it is made.
    """

    def __init__(self, policy: CircuitPolicy, moved: Callable[[Transition], None] = lambda _: None) -> None:
        self.policy = policy
        self.state = CircuitState.CLOSED
        self.next_attempt = 0.0
        self._moved = moved
        self._failures = 0
        self._good_trials = 0
        self._level = 0
        self._limited_until = 0.0
        self._lease: Lease | None = None
        self._in_force = False

    @property
    def status(self) -> CircuitStatus:
        return CLOSED if self.closed else CircuitStatus(self.state, self.next_attempt)

    @property
    def closed(self) -> bool:
        return self.state is CircuitState.CLOSED

    def begin(self, now: float) -> Lease | None:
        """The lease for a check at `now`, None when none may begin: one is under way, or it is not due.

        An open or forced_open circuit that is due becomes half_open here, before its trial.
        """
        if self._lease is not None or not (self.closed or now >= self.next_attempt):
            return None
        if self.state in (CircuitState.OPEN, CircuitState.FORCED_OPEN):
            self._half_open(now)
        self._lease, self._in_force = Lease(), True
        return self._lease

    def record(self, lease: Lease, verdict: Verdict, now: float, rng: Random, retry_after_seconds: float | None = None) -> None:
        """Takes the lease back with what its check, which ended at `now`, has shown."""
        if lease is not self._lease:
            return
        self._lease = None
        if not self._in_force:
            return
        if verdict is Verdict.ANSWERED:
            self._answered(now)
        elif verdict is Verdict.LIMITED:
            self._limited(now, rng, min(retry_after_seconds or 0.0, self.policy.max_retry_after_seconds))
        elif verdict is Verdict.FAILED:
            self._failed(now, rng)
        else:
            self.next_attempt = now + self.policy.interval_seconds

    def bring_forward(self, at: float) -> None:
        """There is reason to hope: an open circuit is tried at `at`, or before, but never within the time of a Retry-After."""
        if self.state is CircuitState.OPEN:
            self.next_attempt = min(self.next_attempt, max(at, self._limited_until))

    def force_open(self, until: float) -> None:
        """An operator has the target left alone until then; it ends through a trial, or by `trial` or `reset`."""
        self.next_attempt = until
        self._move(CircuitState.FORCED_OPEN)

    def trial(self, now: float) -> None:
        """An operator has a circuit that is not closed tried at once; a closed one is at work already."""
        if not self.closed:
            self._half_open(now)

    def reset(self, now: float) -> None:
        """As `trial`, and should it fail, the waits begin anew from the shortest."""
        if not self.closed:
            self._level = 0
            self._half_open(now)

    def _answered(self, now: float) -> None:
        self._failures = 0
        if self.state is not CircuitState.HALF_OPEN:
            return
        self._good_trials += 1
        self.next_attempt = now + self.policy.confirm_seconds
        if self._good_trials >= self.policy.close_after:
            self._level = 0
            self._move(CircuitState.CLOSED)

    def _limited(self, now: float, rng: Random, at_least_seconds: float) -> None:
        self._open(now, rng)
        self._limited_until = now + at_least_seconds
        self.next_attempt = max(self.next_attempt, self._limited_until)

    def _failed(self, now: float, rng: Random) -> None:
        self._failures += 1
        if self.state is CircuitState.HALF_OPEN or self._failures >= self.policy.open_after:
            self._open(now, rng)

    def _open(self, now: float, rng: Random) -> None:
        if self.state is CircuitState.HALF_OPEN:
            self._level += 1
        # capped first, then jittered downwards: otherwise most waits at the cap would end in the same instant
        doubled = self.policy.interval_seconds * 2.0 ** min(self._level, 32)
        self.next_attempt = now + min(self.policy.max_wait_seconds, doubled) * rng.uniform(0.8, 1.0)
        self._move(CircuitState.OPEN)

    def _half_open(self, now: float) -> None:
        """Due at once; trials that were good before count on only where it was half_open already."""
        self.next_attempt = now
        if self.state is not CircuitState.HALF_OPEN:
            self._good_trials = 0
            self._move(CircuitState.HALF_OPEN)

    def _move(self, to: CircuitState) -> None:
        before, self.state = self.state, to
        if before is not to:
            self._in_force = False  # a check that is under way began in another state
            self._moved((before, to))
