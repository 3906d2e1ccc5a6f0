"""Decides when a target rests. Knows no clock and no network: `now` and randomness are passed in.

It stretches a probe's schedule and drops its retries; it never hides a state. It counts checks, not attempts. Mutable, owned
by the probe's loop.
"""

from dataclasses import dataclass
from enum import Enum, auto
from random import Random

from exporter.model import CircuitState, CircuitStatus

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


class Circuit:
    """State machine of one probe: closed → open → half_open → closed."""

    def __init__(self, policy: CircuitPolicy) -> None:
        self.policy = policy
        self.state = CircuitState.CLOSED
        self.next_attempt = 0.0
        self._failures = 0
        self._good_trials = 0
        self._level = 0

    @property
    def status(self) -> CircuitStatus:
        return CircuitStatus(self.state, None if self.state is CircuitState.CLOSED else self.next_attempt)

    @property
    def closed(self) -> bool:
        return self.state is CircuitState.CLOSED

    def begin(self, now: float) -> Transition | None:
        """Called when a check is about to start at `now`: an open circuit that is due becomes half_open before its trial."""
        if self.state is CircuitState.OPEN and now >= self.next_attempt:
            self._good_trials = 0
            return self._move(CircuitState.HALF_OPEN)
        return None

    def trial(self, at: float) -> None:
        """Brings the next attempt of an open circuit forward to `at`: something it depends on has recovered."""
        if self.state is CircuitState.OPEN:
            self.next_attempt = min(self.next_attempt, at)

    def record(self, verdict: Verdict, now: float, rng: Random, retry_after_seconds: float | None = None) -> Transition | None:
        """Takes in a check that ended at `now`; returns the transition it made, if any."""
        if verdict is Verdict.ANSWERED:
            return self._answered(now)
        if verdict is Verdict.LIMITED:
            return self._open(now, rng, min(retry_after_seconds or 0.0, self.policy.max_retry_after_seconds))
        if verdict is Verdict.FAILED:
            return self._failed(now, rng)
        self.next_attempt = now + self.policy.interval_seconds
        return None

    def _answered(self, now: float) -> Transition | None:
        self._failures = 0
        if self.state is not CircuitState.HALF_OPEN:
            return None
        self._good_trials += 1
        self.next_attempt = now + self.policy.confirm_seconds
        if self._good_trials < self.policy.close_after:
            return None
        self._level = 0
        return self._move(CircuitState.CLOSED)

    def _failed(self, now: float, rng: Random) -> Transition | None:
        self._failures += 1
        if self.state is CircuitState.HALF_OPEN or self._failures >= self.policy.open_after:
            return self._open(now, rng, 0.0)
        return None

    def _open(self, now: float, rng: Random, at_least_seconds: float) -> Transition | None:
        if self.state is CircuitState.HALF_OPEN:
            self._level += 1
        # capped first, then jittered downwards: otherwise most waits at the cap would end in the same instant
        doubled = self.policy.interval_seconds * 2.0 ** min(self._level, 32)
        wait = min(self.policy.max_wait_seconds, doubled) * rng.uniform(0.8, 1.0)
        self.next_attempt = now + max(wait, at_least_seconds)
        return self._move(CircuitState.OPEN)

    def _move(self, to: CircuitState) -> Transition | None:
        before, self.state = self.state, to
        return None if before is to else (before, to)
