"""The exporter's own metrics: declared once, and filled from a snapshot. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from exporter.circuit import LEGAL
from exporter.health import Report
from exporter.model import (
    CircuitState,
    CollectorStatus,
    Family,
    Kind,
    Metric,
    Outcome,
    ProbeStatus,
    ProbeTally,
    Reason,
    Row,
    Skip,
    Snapshot,
    Status,
)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"sidecar_{name}", Kind.GAUGE, text, labels)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"sidecar_{name}", Kind.COUNTER, text, labels)


HEALTH_STATUS = _gauge("health_status", "The aggregate of all probes, 1 for the status that holds.", "status")
PROBE_STATUS = _gauge("probe_status", "Confirmed status of the probe, 1 for the one that holds; unknown when overdue.", "status")
OVERDUE = _gauge("probe_overdue", "Whether no check has ended although one should have: 1, or 0.")
ROOT_CAUSE = _gauge(
    "probe_root_cause", "1 for an unhealthy probe and each probe at the root of it, itself where it is the root.", "cause"
)

INFO = _gauge("probe_info", "A configured probe, always 1.", "type", "critical")
UP = _gauge("probe_up", "Whether the last check succeeded, unconfirmed.")
RUNS = _counter("probe_runs_total", "Checks that ended, by outcome.", "outcome")
FAILURES = _counter("probe_failures_total", "Failed checks, by reason.", "reason")
RETRIES = _counter("probe_retries_total", "Further attempts within checks.")
SKIPPED = _counter("probe_skipped_total", "Planned checks passed over, by reason.", "reason")
ABANDONED = _counter("probe_abandoned_total", "Runs whose task outlived its cancellation by a second.")
DURATION = Metric("sidecar_probe_duration_seconds", Kind.HISTOGRAM, "Seconds a check took, retries included.")
LAST_RUN = _gauge("probe_last_run_timestamp_seconds", "End of the last check, Unix seconds.")
LAST_SUCCESS = _gauge("probe_last_success_timestamp_seconds", "End of the last successful check, Unix seconds.")
INTERVAL = _gauge("probe_interval_seconds", "Configured seconds between checks.")
SERIES = _gauge("probe_series", "Series held for the probe's target.")
DROPPED = _counter("probe_series_dropped_total", "Series left out because the probe had more than max_series.")
COLLECTOR_SUCCESS = _gauge("collector_success", "Whether the collector's last run succeeded.", "collector")
COLLECTOR_DURATION = _gauge("collector_duration_seconds", "Seconds the collector's last run took.", "collector")
COLLECTOR_LAST_SUCCESS = _gauge(
    "collector_last_success_timestamp_seconds", "End of the collector's last successful run, Unix seconds.", "collector"
)
CAPABILITY = _gauge("capability", "Whether an optional feature of the target can be read.", "feature")
POOL = _gauge("pool_connections", "Connections to the target.", "state")
POOL_LIMIT = _gauge("pool_max_connections", "Most connections the probe may hold to the target.")
CIRCUIT = _gauge("circuit_state", "State of the circuit, 1 for the one that holds.", "state")
TRANSITIONS = _counter("circuit_transitions_total", "Transitions of the circuit.", "from", "to")
NEXT_ATTEMPT = _gauge("circuit_next_attempt_timestamp_seconds", "When a circuit that is not closed is tried next, Unix seconds.")

HEARTBEAT = _gauge("scheduler_heartbeat_timestamp_seconds", "Last heartbeat of the scheduler, one a second, Unix seconds.")
LAG = _gauge("event_loop_lag_seconds", "Seconds by which the scheduler's last heartbeat, one a second, came late.")
RELOAD = _gauge("config_last_reload_successful", "Whether the last attempt to load the configuration succeeded.")
RELOAD_AT = _gauge("config_last_reload_success_timestamp_seconds", "When a configuration was last loaded, Unix seconds.")
BUILD = _gauge("build_info", "This exporter, always 1.", "version", "revision", "python")

T = TypeVar("T", bound=StrEnum)


def _labels(values: Iterable[T]) -> tuple[tuple[T, tuple[str]], ...]:
    """Each with the label values of its row: made once, for an enum tells its value slowly."""
    return tuple((value, (value.value,)) for value in values)


def _one_hot(values: type[T]) -> dict[T, tuple[Row, ...]]:
    """For each of the values the rows that say that it holds."""
    return {held: tuple((labels, int(value is held)) for value, labels in _labels(values)) for held in values}


_OUTCOMES, _SKIPS = _labels(Outcome), _labels(Skip)
_STATUSES, _STATES = _one_hot(Status), _one_hot(CircuitState)
_PAIRS = tuple(((before, after), (before.value, after.value)) for before, after in LEGAL)


@dataclass(frozen=True, slots=True)
class Told:
    """One metric of a probe: what it is told from, and the rows that tell it. Equal values have equal rows."""

    metric: Metric
    read: Callable[[ProbeStatus, ProbeTally], object]
    rows: Callable[[Any], Iterable[Row]]


def _whole(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _one(value: float | None) -> tuple[Row, ...]:
    return () if value is None else (((), value),)


def _failures(failures: Mapping[Reason, int]) -> list[Row]:
    return [((reason.value,), count) for reason, count in sorted(failures.items())]


def _collectors(value: Callable[[CollectorStatus], float | None]) -> Callable[[tuple[CollectorStatus, ...]], list[Row]]:
    def rows(collectors: tuple[CollectorStatus, ...]) -> list[Row]:
        told = ((collector.name, value(collector)) for collector in collectors)
        return [((name,), number) for name, number in told if number is not None]

    return rows


OF_PROBE: tuple[Told, ...] = (
    Told(INFO, lambda status, _: (status.type, status.critical), lambda raw: (((raw[0], "true" if raw[1] else "false"), 1),)),
    Told(UP, lambda _, tally: tally.up, lambda up: _one(_whole(up))),
    Told(RUNS, lambda _, tally: tally.runs, lambda runs: [(labels, runs[outcome]) for outcome, labels in _OUTCOMES]),
    Told(FAILURES, lambda _, tally: tally.failures, _failures),
    Told(RETRIES, lambda _, tally: tally.retries, _one),
    Told(SKIPPED, lambda _, tally: tally.skipped, lambda skipped: [(labels, skipped[reason]) for reason, labels in _SKIPS]),
    Told(ABANDONED, lambda _, tally: tally.abandoned, _one),
    Told(DURATION, lambda _, tally: tally.durations, lambda durations: (((), durations),)),
    Told(LAST_RUN, lambda status, _: status.last_run_at, _one),
    Told(LAST_SUCCESS, lambda status, _: status.last_success_at, _one),
    Told(INTERVAL, lambda _, tally: tally.interval_seconds, _one),
    Told(SERIES, lambda _, tally: tally.series, _one),
    Told(DROPPED, lambda _, tally: tally.dropped, _one),
    Told(
        COLLECTOR_SUCCESS,
        lambda status, _: status.collectors,
        _collectors(lambda one: _whole(one.success)),
    ),
    Told(COLLECTOR_DURATION, lambda status, _: status.collectors, _collectors(lambda one: one.duration_seconds)),
    Told(COLLECTOR_LAST_SUCCESS, lambda status, _: status.collectors, _collectors(lambda one: one.last_success_at)),
    Told(CAPABILITY, lambda _, tally: tally.capabilities, lambda found: [((feature,), int(good)) for feature, good in found]),
    Told(POOL, lambda _, tally: tally.pool, lambda pool: () if pool is None else ((("idle",), pool.idle), (("used",), pool.used))),
    Told(POOL_LIMIT, lambda _, tally: tally.pool, lambda pool: _one(None if pool is None else pool.limit)),
    Told(CIRCUIT, lambda status, _: status.circuit.state, _STATES.__getitem__),
    Told(TRANSITIONS, lambda _, tally: tally.transitions, lambda made: [(labels, made[pair]) for pair, labels in _PAIRS]),
    Told(NEXT_ATTEMPT, lambda _, tally: tally.next_attempt_at, _one),
)
"""What is told of each probe, from its status and tally."""


def of_verdicts(report: Report) -> tuple[Family, dict[str, tuple[Family, ...]]]:
    """The aggregate's family, and by probe those that change with the verdict and the time."""
    aggregate = Family(HEALTH_STATUS, _STATUSES[report.status])
    by_probe = {}
    for health in report.probes:
        families = [Family(PROBE_STATUS, _STATUSES[health.status])]
        families.append(Family(OVERDUE, _one(int(health.stale))))
        if health.status is Status.UNHEALTHY:
            families.append(Family(ROOT_CAUSE, tuple(((cause,), 1) for cause in health.caused_by or (health.probe.name,))))
        by_probe[health.probe.name] = tuple(families)
    return aggregate, by_probe


def of_process(snapshot: Snapshot) -> tuple[Family, ...]:
    """What is told of this process from the snapshot."""
    families = [
        Family(RELOAD, _one(int(snapshot.reload.successful))),
        Family(RELOAD_AT, _one(snapshot.reload.at)),
        Family(HEARTBEAT, _one(snapshot.beat_at)),
        Family(LAG, _one(snapshot.lags[-1] if snapshot.lags else 0.0)),
    ]
    return tuple(family for family in families if family.rows)


def build(version: str, revision: str, python: str) -> Family:
    return Family(BUILD, (((version, revision, python), 1),))
