"""The exporter's own metrics: declared once, and filled from a snapshot. Pure."""

from collections.abc import Callable, Iterable

from exporter.health import Report
from exporter.model import (
    CircuitState,
    Family,
    Kind,
    Metric,
    Outcome,
    ProbeStatus,
    ProbeTally,
    Row,
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

Source = Callable[[ProbeStatus, ProbeTally], Iterable[Row]]


def _one(value: float | None) -> tuple[Row, ...]:
    return () if value is None else (((), value),)


def _pool(tally: ProbeTally) -> tuple[Row, ...]:
    return () if tally.pool is None else ((("idle",), tally.pool.idle), (("used",), tally.pool.used))


OF_PROBE: tuple[tuple[Metric, Source], ...] = (
    (INFO, lambda status, _: (((status.type, "true" if status.critical else "false"), 1),)),
    (UP, lambda _, tally: _one(None if tally.up is None else int(tally.up))),
    (RUNS, lambda _, tally: (((outcome.value,), tally.runs[outcome]) for outcome in Outcome)),
    (FAILURES, lambda _, tally: (((reason.value,), count) for reason, count in sorted(tally.failures.items()))),
    (RETRIES, lambda _, tally: _one(tally.retries)),
    (SKIPPED, lambda _, tally: (((reason.value,), count) for reason, count in tally.skipped.items())),
    (ABANDONED, lambda _, tally: _one(tally.abandoned)),
    (DURATION, lambda _, tally: (((), tally.durations),)),
    (LAST_RUN, lambda status, _: _one(status.last_run_at)),
    (LAST_SUCCESS, lambda status, _: _one(status.last_success_at)),
    (INTERVAL, lambda _, tally: _one(tally.interval_seconds)),
    (SERIES, lambda _, tally: _one(tally.series)),
    (DROPPED, lambda _, tally: _one(tally.dropped)),
    (COLLECTOR_SUCCESS, lambda status, _: (((c.name,), int(c.success)) for c in status.collectors if c.success is not None)),
    (
        COLLECTOR_DURATION,
        lambda status, _: (((c.name,), c.duration_seconds) for c in status.collectors if c.duration_seconds is not None),
    ),
    (
        COLLECTOR_LAST_SUCCESS,
        lambda status, _: (((c.name,), c.last_success_at) for c in status.collectors if c.last_success_at is not None),
    ),
    (CAPABILITY, lambda _, tally: (((feature,), int(available)) for feature, available in tally.capabilities)),
    (POOL, lambda _, tally: _pool(tally)),
    (POOL_LIMIT, lambda _, tally: _one(tally.pool.limit if tally.pool else None)),
    (CIRCUIT, lambda status, _: (((state.value,), int(state is status.circuit.state)) for state in CircuitState)),
    (TRANSITIONS, lambda _, tally: (((a.value, b.value), count) for (a, b), count in tally.transitions.items())),
    (NEXT_ATTEMPT, lambda _, tally: _one(tally.next_attempt_at)),
)
"""What is told of each probe, from its status and tally."""


def of_probe(status: ProbeStatus, tally: ProbeTally) -> tuple[Family, ...]:
    """A probe's own families; empty ones are left out."""
    families = (Family(metric, tuple(source(status, tally))) for metric, source in OF_PROBE)
    return tuple(family for family in families if family.rows)


def of_verdicts(report: Report) -> tuple[Family, dict[str, tuple[Family, ...]]]:
    """The aggregate's family, and by probe those that change with the verdict and the time."""
    aggregate = Family(HEALTH_STATUS, tuple(((status.value,), int(status is report.status)) for status in Status))
    by_probe = {}
    for health in report.probes:
        families = [Family(PROBE_STATUS, tuple(((status.value,), int(status is health.status)) for status in Status))]
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
