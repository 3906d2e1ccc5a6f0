"""What is known right now: the one mutable thing between the schedule, which writes, and the readers, who get snapshots.

Everything runs on one event loop, so nothing here is locked. Knows no clock (moments are passed in), no network, no HTTP.
"""

from collections import deque
from collections.abc import Sequence
from itertools import count

from exporter.circuit import Transition
from exporter.model import CHECK, CircuitStatus, Reload, Run, Skip, Snapshot, Status
from exporter.state.record import Live, Record, Watched

LAG_SAMPLES = 60

__all__ = ["Live", "State", "Watched"]


class State:
    """One writer (the schedule), many readers. `now` is monotonic seconds everywhere, `wall` Unix seconds."""

    def __init__(self, now: float, wall: float) -> None:
        self._records: dict[str, Record] = {}
        self._numbers = count(1)
        self._generation = 0
        self._beat = now
        self._started = now
        self._lags: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._reload = Reload(successful=True, at=wall)

    def add(self, watched: Watched, now: float) -> None:
        """A probe exists from now on; a disabled one too."""
        self._records[watched.name] = Record(watched, now, self._numbers.__next__)
        self._generation += 1

    def attach(self, name: str, live: Live, collectors: Sequence[str]) -> None:
        """The probe's code is loaded: this is where to ask it, and these are its collectors."""
        record = self._records[name]
        record.live = live
        for collector in collectors:
            record.add_collector(collector)

    def record(self, name: str, run: Run, stale_seconds: float) -> bool:
        """Takes in a finished run; returns whether a change of status is pending confirmation."""
        record = self._records[name]
        before = record.standing
        if run.collector == CHECK:
            pending = record.add_check(run, stale_seconds)
        else:
            record.add_collected(run, stale_seconds)
            pending = False
        if record.standing != before:
            self._generation += 1
        return pending

    def status(self, name: str) -> Status:
        """The confirmed status."""
        return self._records[name].verdict.status

    def failure_threshold(self, name: str) -> int:
        """How many failed checks in a row confirm that it is unhealthy."""
        return self._records[name].watched.failure_threshold

    def failing(self, name: str) -> bool:
        """Whether the last check failed, confirmed or not."""
        return self._records[name].standing[1]

    def sentence(self, name: str) -> str:
        """The confirmed status and why, for a log line."""
        verdict = self._records[name].verdict
        reason, message = verdict.why
        return str(verdict.status) if reason is None else f"{verdict.status}, {reason}: {message}"

    def plan(self, name: str, planned: float, circuit: CircuitStatus, next_attempt_at: float | None) -> None:
        """The next check is planned for `planned`, with the circuit standing so."""
        self._records[name].plan(planned, circuit, next_attempt_at)

    def moved(self, name: str, transition: Transition) -> None:
        self._records[name].tallies.transitions[transition] += 1
        self._records[name].touch()

    def skipped(self, name: str, reason: Skip, count: int = 1) -> None:
        self._records[name].tallies.skipped[reason] += count
        self._records[name].touch()

    def abandoned(self, name: str) -> None:
        self._records[name].tallies.abandoned += 1
        self._records[name].touch()

    def beat(self, now: float, lag_seconds: float) -> None:
        """The scheduler is alive; its last wake-up came `lag_seconds` late."""
        self._beat = now
        self._lags.append(lag_seconds)

    def snapshot(self) -> Snapshot:
        views = [record.views() for record in self._records.values()]
        return Snapshot(
            generation=self._generation,
            started=self._started,
            probes=tuple(status for status, _ in views),
            beat=self._beat,
            lags=tuple(self._lags),
            tallies=tuple(tally for _, tally in views),
            reload=self._reload,
        )
