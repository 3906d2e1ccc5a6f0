"""What each database has done since its statistics were reset, and its size.

Columns: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW
Names and labels are postgres_exporter's (0.20, collector/pg_stat_database.go and pg_database.go).
"""

from collections.abc import Sequence

from exporter.model import Family, Kind, Metric
from exporter.probes.postgres.groups.view import Column, Feature, Group, View, gauge
from exporter.probes.postgres.server import MONITORS, Server

_LABELS = ("datid", "datname")
_SOURCE = "from pg_stat_database"


def _counter(name: str, help_text: str, sql: str = "", since: int = 0) -> Column:
    """A counter of pg_stat_database; without `sql` the column has the metric's name."""
    metric = Metric(f"pg_stat_database_{name}", Kind.COUNTER, f"{help_text}, {_SOURCE}.{sql or name}.", _LABELS)
    return Column(metric, sql or name, since)


def _seconds(name: str, help_text: str) -> Column:
    """A counter that the server keeps in milliseconds, since PostgreSQL 14."""
    metric = Metric(f"pg_stat_database_{name}_seconds_total", Kind.COUNTER, f"Seconds {help_text}, {_SOURCE}.{name}.", _LABELS)
    return Column(metric, f"{name} / 1000", 140000)


_STATISTICS = View(
    labels=_LABELS,
    columns=(
        Column(
            gauge(
                "pg_stat_database_numbackends",
                "Backends connected to the database now, the exporter's included, from pg_stat_database.numbackends.",
                *_LABELS,
            ),
            "numbackends",
        ),
        _counter("xact_commit", "Transactions committed, the exporter's included"),
        _counter("xact_rollback", "Transactions rolled back"),
        _counter("blks_read", "Blocks read from disk or the system's cache"),
        _counter("blks_hit", "Blocks found in PostgreSQL's own cache"),
        _counter("tup_returned", "Live rows fetched by sequential scans, and index entries returned by index scans"),
        _counter("tup_fetched", "Live rows fetched by index scans"),
        _counter("tup_inserted", "Rows inserted"),
        _counter("tup_updated", "Rows updated"),
        _counter("tup_deleted", "Rows deleted"),
        _counter("conflicts", "Queries cancelled for conflicts with recovery, on standbys only"),
        _counter("temp_files", "Temporary files made by queries"),
        _counter("temp_bytes", "Bytes written to temporary files by queries"),
        _counter("deadlocks", "Deadlocks found"),
        _counter("blk_read_time", "Milliseconds spent reading blocks, 0 without track_io_timing"),
        _counter("blk_write_time", "Milliseconds spent writing blocks, 0 without track_io_timing"),
        Column(
            gauge(
                "pg_stat_database_stats_reset",
                "Unix time in seconds at which the statistics were reset, from pg_stat_database.stats_reset; absent if never.",
                *_LABELS,
            ),
            "extract(epoch FROM stats_reset)",
        ),
        _seconds("session_time", "spent by sessions, idle ones included, told when they change state"),
        _seconds("active_time", "spent executing statements"),
        _seconds("idle_in_transaction_time", "spent idle inside a transaction"),
        _counter("sessions_total", "Sessions established", "sessions", 140000),
        _counter("sessions_abandoned_total", "Sessions ended because the client was lost", "sessions_abandoned", 140000),
        _counter("sessions_fatal_total", "Sessions ended by fatal errors", "sessions_fatal", 140000),
        _counter("sessions_killed_total", "Sessions ended by an operator", "sessions_killed", 140000),
    ),
    # the row without a database (datid 0, since PostgreSQL 12) is of the shared catalogues
    source="FROM pg_stat_database WHERE datname IS NOT NULL",
)

_SIZE = View(
    labels=("datname",),
    columns=(
        Column(
            gauge(
                "pg_database_size_bytes",
                "Bytes on disk, from pg_database_size(); absent where our role may not see it.",
                "datname",
            ),
            # takes no lock, but looks at every file of the database
            f"CASE WHEN has_database_privilege(oid, 'CONNECT') OR {MONITORS} THEN pg_database_size(oid) END",
        ),
    ),
    source="FROM pg_database",
)


def _sizes_complete(server: Server, families: Sequence[Family]) -> bool:
    databases = {len(family.rows) for family in families if family.metric.name == "pg_stat_database_numbackends"}
    sizes = {len(family.rows) for family in families if family.metric.name == "pg_database_size_bytes"}
    return server.monitors or databases == sizes


DATABASE = Group(
    views=(_STATISTICS, _SIZE),
    feature=Feature("database_size", "GRANT pg_read_all_stats TO {role}, or GRANT CONNECT on each database", _sizes_complete),
)
