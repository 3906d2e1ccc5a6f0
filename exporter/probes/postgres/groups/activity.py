"""What sessions are doing, by database and state.

Names are postgres_exporter's (0.20, collector/pg_stat_activity.go) with its two labels of old: usename, application_name and
wait events have no bound. https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
"""

from exporter.probes.postgres.groups.view import Column, Feature, Group, View, gauge
from exporter.probes.postgres.server import MONITORS

_LABELS = ("datname", "state")
_STATES = ("active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled")
_HIDDEN = "unknown"
"""The state of sessions that our role may not look into: the server gives NULL."""

_VALUES = ", ".join(f"('{state}')" for state in (*_STATES, _HIDDEN))
# greatest() passes over NULL: no open transaction is 0
_LONGEST = "greatest(0, max(extract(epoch FROM clock_timestamp() - a.xact_start)))"

ACTIVITY = Group(
    views=(
        View(
            labels=("d.datname", "s.state"),
            columns=(
                Column(
                    gauge(
                        "pg_stat_activity_count",
                        "Sessions in this state, from pg_stat_activity; all but the one that asks."
                        " State unknown: our role lacks pg_read_all_stats to see more.",
                        *_LABELS,
                    ),
                    "count(a.pid)",
                ),
                Column(
                    gauge(
                        "pg_stat_activity_max_tx_duration",
                        "Seconds since the oldest open transaction of a session in this state began,"
                        " from pg_stat_activity.xact_start; 0 when there is none.",
                        *_LABELS,
                    ),
                    f"CASE WHEN s.state <> '{_HIDDEN}' THEN {_LONGEST} END",
                ),
            ),
            # a state in which nobody is counts 0, but only where we may see everybody
            source=(
                f"FROM pg_database d CROSS JOIN (VALUES {_VALUES}) AS s(state) LEFT JOIN pg_stat_activity a"
                f" ON a.datid = d.oid AND coalesce(a.state, '{_HIDDEN}') = s.state AND a.pid <> pg_backend_pid()"
                f" GROUP BY d.datname, s.state HAVING count(a.pid) > 0 OR (s.state <> '{_HIDDEN}' AND {MONITORS})"
            ),
        ),
    ),
    feature=Feature("all_sessions", "GRANT pg_read_all_stats TO {role}", lambda server, _: server.monitors),
)
