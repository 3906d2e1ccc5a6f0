"""Retries inside one run: the presets, and the waits between attempts. The only file that imports backoff.

Knows no probe and no clock; whether a wait still fits under the run's deadline is asked of the caller.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import backoff

from exporter.errors import ProbeError

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` in all, at least 1; the wait after attempt n is uniform in 0..min(max_seconds, initial_seconds · 2^(n-1))."""

    attempts: int
    initial_seconds: float = 0.0
    max_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("at least one attempt")  # backoff would take 0 as for ever


PRESETS = {
    "none": RetryPolicy(1),
    "fast": RetryPolicy(3, 0.2, 1.0),
    "quick": RetryPolicy(3, 0.1, 0.5),
    "steady": RetryPolicy(3, 0.5, 2.0),
    "patient": RetryPolicy(5, 0.5, 3.0),
}


def retrying(
    attempt: Callable[[A], Awaitable[T]], policy: RetryPolicy, rng: Random, may_wait: Callable[[A, float], bool]
) -> Callable[[A], Awaitable[T]]:
    """`attempt`, tried again as `policy` says while it raises a retryable ProbeError; the last error stands.

    `may_wait(argument, seconds)` is asked before each wait, with the argument of the call: False ends the attempts there.
    """
    if policy.attempts == 1:
        return attempt

    def before_wait(details: Any) -> None:
        if not may_wait(details["args"][0], details["wait"]):
            raise details["exception"]

    decorated: Callable[[A], Awaitable[T]] = backoff.on_exception(
        backoff.expo,
        ProbeError,
        max_tries=policy.attempts,
        factor=policy.initial_seconds,
        max_value=policy.max_seconds,
        giveup=_hopeless,
        jitter=lambda bound: rng.uniform(0.0, bound),  # full jitter, from the caller's randomness
        on_backoff=before_wait,
        logger=None,  # its default logger prints exception texts
    )(attempt)
    return decorated


def _hopeless(error: Exception) -> bool:
    return not (isinstance(error, ProbeError) and error.retryable)
