"""Everything known of one probe: its verdict, its tallies, its series. Knows no clock: moments are passed in."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from exporter.circuit import LEGAL, Transition
from exporter.health import BLIND_SECONDS, confirm
from exporter.model import (
    CHECK,
    Change,
    CircuitState,
    CircuitStatus,
    CollectorStatus,
    Distribution,
    Family,
    Metric,
    Outcome,
    PoolUse,
    ProbeStatus,
    ProbeTally,
    Reason,
    Run,
    Skip,
    Status,
)
from exporter.state.history import Past
from exporter.state.series import Series

DURATION_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OVERDUE_INTERVALS = 2

_STATUS = {Outcome.SUCCESS: Status.HEALTHY, Outcome.DEGRADED: Status.DEGRADED, Outcome.FAILURE: Status.UNHEALTHY}


@dataclass(frozen=True, slots=True)
class Watched:
    """What the state must know of a probe beforehand. Seconds; `labels` are its static labels, `probe` first."""

    name: str
    type: str
    up: Metric
    labels: tuple[tuple[str, str], ...]
    interval_seconds: float
    timeout_seconds: float
    failure_threshold: int = 2
    success_threshold: int = 2
    max_series: int = 10_000
    critical: bool = True
    enabled: bool = True
    depends_on: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """What a running probe is asked for at each snapshot."""

    pool: Callable[[], PoolUse | None]
    counters: Callable[[], tuple[int, tuple[Family, ...]]]


class Verdict:
    """The confirmed status of one probe and what stands behind it; mutable."""

    def __init__(self, failure_threshold: int, success_threshold: int) -> None:
        self.status = Status.UNKNOWN
        self.limited_since: float | None = None
        self.since: float | None = None
        self.since_at: float | None = None
        self.last: Run | None = None
        self.last_success_at: float | None = None
        self.failures_in_a_row = 0
        self._thresholds = (failure_threshold, success_threshold)
        self._checks: deque[Status] = deque(maxlen=max(self._thresholds))
        self._why: dict[Status, tuple[Reason | None, str | None]] = {}

    def add(self, run: Run) -> bool:
        """Takes in a check that was not cancelled; returns whether it contradicts the confirmed status."""
        check = _STATUS[run.outcome]
        self.last = run
        self.failures_in_a_row = self.failures_in_a_row + 1 if check is Status.UNHEALTHY else 0
        if check is not Status.UNHEALTHY:
            self.last_success_at = run.ended_at
        if check is not Status.HEALTHY:
            self._why[check] = (run.reason, run.message)
        self._checks.append(check)
        limited = run.reason is Reason.RATE_LIMITED
        self.limited_since = (self.limited_since or run.ended) if limited else None
        confirmed = Status.DEGRADED if limited else confirm(self.status, tuple(self._checks), *self._thresholds)
        if confirmed is not self.status:
            self.status, self.since, self.since_at = confirmed, run.ended, run.ended_at
        return check is not confirmed

    @property
    def why(self) -> tuple[Reason | None, str | None]:
        """Reason and message of the last non-healthy check behind the status."""
        if self.status is Status.UNKNOWN and self.last is not None:
            return self.last.reason, self.last.message
        return self._why.get(self.status, (None, None))


class Tallies:
    """What is counted of one probe since it was added; mutable."""

    def __init__(self) -> None:
        self.runs = dict.fromkeys(Outcome, 0)
        self.failures: dict[Reason, int] = {}
        self.retries = 0
        self.skipped = dict.fromkeys(Skip, 0)
        self.abandoned = 0
        self.transitions: dict[Transition, int] = dict.fromkeys(LEGAL, 0)
        self._buckets = [0] * (len(DURATION_BOUNDS) + 1)
        self._duration_sum = 0.0

    def add(self, run: Run) -> None:
        """Counts a check; a cancelled one has no duration worth telling."""
        self.runs[run.outcome] += 1
        self.retries += run.retries
        if run.outcome is Outcome.CANCELLED:
            return
        self._buckets[bisect_left(DURATION_BOUNDS, run.duration_seconds)] += 1
        self._duration_sum += run.duration_seconds
        if run.outcome is Outcome.FAILURE and run.reason is not None:
            self.failures[run.reason] = self.failures.get(run.reason, 0) + 1

    @property
    def durations(self) -> Distribution:
        cumulative = tuple(accumulate(self._buckets))
        return Distribution(DURATION_BOUNDS, cumulative[:-1], self._duration_sum, cumulative[-1])


class Record:
    """One probe. Its loops write here, through `State.of`; `views()` gives frozen values, made anew only after a change.

    A record that has left the state, or made room for another of its name, may be written to as before: nobody reads it any
    more. `number` gives numbers that no record had before, `stood` is told when verdicts may have changed.
    """

    def __init__(
        self, watched: Watched, now: float, number: Callable[[], int], stood: Callable[[], None], tallies: Tallies
    ) -> None:
        self.watched = watched
        self._number = number
        self._stood = stood
        self._live: Live | None = None
        self._verdict = Verdict(watched.failure_threshold, watched.success_threshold)
        self._tallies = tallies
        self.past = Past(now)
        self._series = Series(watched.max_series, number)
        self._circuit = CircuitStatus()
        self._next_attempt_at: float | None = None
        self._detail: dict[str, object] = {}
        self._collectors: dict[str, CollectorStatus] = {}
        self._version = 0
        self._seen: tuple[int, PoolUse | None] | None = None
        self._views: tuple[ProbeStatus, ProbeTally] | None = None
        self.plan(now, now, self._circuit, None)

    def inherit(self, other: "Record", now: float, at: float) -> None:
        """Goes on with the past of the one whose place it takes; that one, which may still be written to, gets another."""
        self.past, other.past = other.past, self.past
        if other.status is not self.status:
            self.past.change(Change(at, other.status, self.status, None, None))
        self._observe(now)

    # -- what its loops write ----------------------------------------------------------------------------------------

    def attach(self, live: Live, collectors: Sequence[str]) -> None:
        """The probe's code is loaded: this is where to ask it, and these are its collectors."""
        self._live = live
        self._collectors.update((name, CollectorStatus(name)) for name in collectors if name not in self._collectors)
        self.touch()

    def take(self, run: Run, stale_seconds: float) -> bool:
        """Takes in a finished run; returns whether a change of status is pending confirmation."""
        before = self._standing
        self.past.take(run)
        if run.collector == CHECK:
            pending = self._take_check(run, stale_seconds)
        else:
            self._take_collected(run, stale_seconds)
            pending = False
        if self._standing != before:
            self._stood()
        return pending

    def moved(self, transition: Transition) -> None:
        """The circuit has gone from one state to another."""
        self._tallies.transitions[transition] += 1
        self.touch()

    def skipped(self, reason: Skip, count: int = 1) -> None:
        """So many planned checks were passed over."""
        self._tallies.skipped[reason] += count
        self.touch()

    def abandoned(self) -> None:
        """A task outlived its cancellation."""
        self._tallies.abandoned += 1
        self.touch()

    def relabel(self, labels: tuple[tuple[str, str], ...]) -> None:
        """Its series carry these static labels from now on."""
        self.watched = replace(self.watched, labels=labels)
        self.touch()

    def plan(self, now: float, planned: float, circuit: CircuitStatus, next_attempt_at: float | None) -> None:
        """From `now` on the next check is planned for `planned`: it is overdue when none has ended long after."""
        watched = self.watched
        self._circuit, self._next_attempt_at = circuit, next_attempt_at
        self._overdue = planned + watched.timeout_seconds + OVERDUE_INTERVALS * watched.interval_seconds
        self._observe(now)
        self.touch()

    def touch(self) -> None:
        """Something a reader sees has changed."""
        self._version = self._number()
        self._views = None

    # -- what they ask -----------------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The confirmed status."""
        return self._verdict.status

    @property
    def failing(self) -> bool:
        """Whether the last check failed, confirmed or not."""
        return self._verdict.failures_in_a_row > 0

    @property
    def why(self) -> tuple[Reason | None, str | None]:
        """Reason and message behind the confirmed status, both None where it is healthy."""
        return self._verdict.why

    # -- how it is kept ----------------------------------------------------------------------------------------------

    @property
    def _standing(self) -> tuple[Status, bool]:
        """What the verdicts of this probe and of those that depend on it follow from."""
        return self.status, self.failing

    def _take_check(self, run: Run, stale_seconds: float) -> bool:
        self.touch()
        self._tallies.add(run)
        if run.outcome is Outcome.CANCELLED:
            return False
        good = run.outcome is not Outcome.FAILURE
        if run.reading is not None:
            self._detail = {**({} if good else self._detail), **run.reading.detail}
            self._series.take(CHECK, run.reading, run.ended, run.ended + stale_seconds, complete=good)
        self._series.take_up(self.watched.up, int(good))
        before, pending = self.status, self._verdict.add(run)
        if self.status is not before:
            self.past.change(Change(run.ended_at, before, self.status, *self._verdict.why))
        self._observe(run.ended)
        return pending

    def _take_collected(self, run: Run, stale_seconds: float) -> None:
        """One that was cancelled leaves no trace."""
        if run.outcome is Outcome.CANCELLED:
            return
        self.touch()
        good = run.outcome is not Outcome.FAILURE
        before = self._collectors[run.collector]
        self._collectors[run.collector] = CollectorStatus(
            run.collector,
            success=good,
            reason=run.reason,
            message=run.message,
            last_success=run.ended if good else before.last_success,
            last_success_at=run.ended_at if good else before.last_success_at,
            duration_seconds=run.duration_seconds,
        )
        if run.reading is not None:
            self._series.take(run.collector, run.reading, run.ended, run.ended + stale_seconds, complete=good)

    def _observe(self, now: float) -> None:
        """Tells the past how the probe stands from now on, as /health tells it: not known while it is forced open, nor overdue,
        nor when it has kept us away for too long."""
        limited = self._verdict.limited_since
        blind = float("inf") if limited is None else limited + BLIND_SECONDS
        forced = self._circuit.state is CircuitState.FORCED_OPEN
        self.past.stand(now, Status.UNKNOWN if forced else self.status, min(self._overdue, blind))

    # -- what readers see --------------------------------------------------------------------------------------------

    def views(self) -> tuple[ProbeStatus, ProbeTally]:
        """What readers see of the probe now; what its listener has counted is taken over first."""
        if self._live is not None:
            version, families = self._live.counters()
            seen = (version, self._live.pool())
            if seen != self._seen:
                self._seen = seen
                self._series.take_counters(version, families)
                self.touch()
        if self._views is None:
            self._views = (self._status(), self._tally())
        return self._views

    def _status(self) -> ProbeStatus:
        watched, verdict, last = self.watched, self._verdict, self._verdict.last
        reason, message = verdict.why
        return ProbeStatus(
            name=watched.name,
            type=watched.type,
            critical=watched.critical,
            enabled=watched.enabled,
            depends_on=watched.depends_on,
            aliases=watched.aliases,
            status=verdict.status,
            reason=reason,
            message=message,
            limited_since=verdict.limited_since,
            since=verdict.since,
            since_at=verdict.since_at,
            last_run=last.ended if last else None,
            last_run_at=last.ended_at if last else None,
            last_success_at=verdict.last_success_at,
            duration_seconds=last.duration_seconds if last else None,
            failing=self.failing,
            consecutive_failures=verdict.failures_in_a_row,
            overdue=self._overdue,
            circuit=self._circuit,
            detail=self._detail,
            collectors=tuple(self._collectors.values()),
        )

    def _tally(self) -> ProbeTally:
        watched, tallies, series = self.watched, self._tallies, self._series
        return ProbeTally(
            name=watched.name,
            version=self._version,
            labels=watched.labels,
            interval_seconds=watched.interval_seconds,
            runs=dict(tallies.runs),
            failures=dict(tallies.failures),
            retries=tallies.retries,
            skipped=dict(tallies.skipped),
            abandoned=tallies.abandoned,
            durations=tallies.durations,
            series=series.count,
            dropped=series.dropped,
            transitions=dict(tallies.transitions),
            next_attempt_at=self._next_attempt_at,
            pool=self._pool(),
            capabilities=series.capabilities,
            up=None if self._verdict.last is None else self._verdict.failures_in_a_row == 0,
            blocks=series.blocks(self._overdue),
        )

    def _pool(self) -> PoolUse | None:
        limit = self.watched.connections
        return self._seen[1] if self._seen is not None else None if limit is None else PoolUse(0, 0, limit)
