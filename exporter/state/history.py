"""The past of one probe: its last runs, failures and changes of status, and its availability. Knows no clock and no schedule.

Bounded whatever happens: 13 kB a probe, 24 kB in an outage that repeats itself, and at most 400 kB were every failure as long
as it may be and unlike the one before. It is kept as bytes and plain tuples, which the garbage collector does not walk.
"""

from array import array
from collections import deque
from collections.abc import Iterator

from exporter.model import CHECK, Change, History, Outcome, PastRun, Phase, Reason, Recent, Run, Status
from exporter.state.availability import Observed

RUNS = 120
FAILURES = 50
"""Of the check, and as many of its collectors together: one that fails for ever must not push out what the check went through."""
CHANGES = 100
RECENT = 30

_GOOD = (Status.HEALTHY, Status.DEGRADED)
_OUTCOMES = tuple(Outcome)
_REASONS = (None, *Reason)
_MOST_RETRIES = 0xFFFF

_Failure = tuple[str, str, bytes, bytes]
"""Collector, reason, words (message and what was waited for, a line each), numbers (doubles: moment, duration, retries, and
seconds of each wait)."""


class Runs:
    """The last `RUNS` runs of a check, by column; mutable."""

    __slots__ = ("_count", "_durations", "_ended", "_outcomes", "_reasons", "_retries")

    def __init__(self) -> None:
        self._count = 0
        self._ended = array("d", bytes(8 * RUNS))
        self._durations = array("d", bytes(8 * RUNS))
        self._outcomes = bytearray(RUNS)
        self._reasons = bytearray(RUNS)
        self._retries = array("H", bytes(2 * RUNS))

    def add(self, run: Run) -> None:
        place = self._count % RUNS
        self._ended[place] = run.ended_at
        self._durations[place] = run.duration_seconds
        self._outcomes[place] = _OUTCOMES.index(run.outcome)
        self._reasons[place] = _REASONS.index(run.reason)
        self._retries[place] = min(run.retries, _MOST_RETRIES)
        self._count += 1

    def newest_first(self) -> Iterator[PastRun]:
        for place in self._places(RUNS):
            yield PastRun(
                CHECK,
                _OUTCOMES[self._outcomes[place]],
                self._ended[place],
                self._durations[place],
                _REASONS[self._reasons[place]],
                self._retries[place],
            )

    def outcomes(self, most: int) -> tuple[Outcome, ...]:
        """Of the last runs, oldest first."""
        return tuple(_OUTCOMES[self._outcomes[place]] for place in reversed(self._places(most)))

    def _places(self, most: int) -> list[int]:
        """Where the last runs are, newest first."""
        return [number % RUNS for number in range(self._count - 1, self._count - 1 - min(most, RUNS, self._count), -1)]


class Failures:
    """The last `FAILURES` failed runs; mutable. An outage repeats itself: words that were the last ones too are kept once."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: deque[_Failure] = deque(maxlen=FAILURES)

    def add(self, run: Run) -> None:
        words = "\n".join((run.message or "", *(phase.what for phase in run.phases))).encode("utf-8", "surrogatepass")
        if self._kept and self._kept[-1][2] == words:
            words = self._kept[-1][2]
        numbers = (run.ended_at, run.duration_seconds, run.retries, *(phase.seconds for phase in run.phases))
        self._kept.append((run.collector, (run.reason or Reason.INTERNAL).value, words, array("d", numbers).tobytes()))

    def __iter__(self) -> Iterator[PastRun]:
        return map(_failed, self._kept)


def _failed(kept: _Failure) -> PastRun:
    collector, reason, words, numbers = kept
    message, *waits = words.decode("utf-8", "surrogatepass").split("\n")
    ended_at, duration, retries, *seconds = array("d", numbers)
    phases = tuple(map(Phase, waits, seconds))
    return PastRun(collector, Outcome.FAILURE, ended_at, duration, Reason(reason), int(retries), message or None, phases)


class Past:
    """What a probe's record writes and readers are told; mutable."""

    __slots__ = ("_changes", "_checks", "_collected", "_observed", "_runs")

    def __init__(self, now: float) -> None:
        self._runs = Runs()
        self._checks = Failures()
        self._collected = Failures()
        self._changes: deque[Change] = deque(maxlen=CHANGES)
        self._observed = Observed(now)

    def take(self, run: Run) -> None:
        """Takes in a finished run; one that was cancelled says nothing of the target, and leaves no trace."""
        if run.outcome is Outcome.CANCELLED:
            return
        if run.collector == CHECK:
            self._runs.add(run)
        if run.outcome is Outcome.FAILURE:
            (self._checks if run.collector == CHECK else self._collected).add(run)

    def change(self, change: Change) -> None:
        """The confirmed status has changed."""
        self._changes.append(change)

    def stand(self, now: float, status: Status, until: float) -> None:
        """From `now` on the probe stands like this, and is not known any more after `until` (both monotonic seconds)."""
        self._observed.stand(now, now if status is Status.UNKNOWN else until, good=status in _GOOD)

    def recent(self, now: float) -> Recent:
        """The past at a glance."""
        return Recent(self._runs.outcomes(RECENT), self._observed.availability(now))

    def history(self, now: float) -> History:
        """All that is remembered."""
        failures = sorted((*self._checks, *self._collected), key=lambda run: run.ended_at, reverse=True)
        return History(
            runs=tuple(self._runs.newest_first()),
            failures=tuple(failures),
            changes=tuple(reversed(self._changes)),
            availability=self._observed.availability(now),
        )
