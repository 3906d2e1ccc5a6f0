"""The few settings that saturation is measured against, and the version; postgres_exporter's names (0.20, collector/pg_setting.go).

Read by current_setting(), which is a hundred times cheaper than the view pg_settings.
"""

from exporter.probes.postgres.groups.view import Column, Group, View, gauge


def _setting(name: str, help_text: str, since: int = 0) -> Column:
    metric = gauge(f"pg_settings_{name}", f"{help_text}, from the server's setting {name}.")
    return Column(metric, f"current_setting('{name}')::bigint", since)


_VERSION = gauge("pg_static", "Always 1; the labels are version() and its number as major.minor.0.", "version", "short_version")

SETTINGS = Group(
    views=(
        View(
            labels=(),
            columns=(
                _setting("max_connections", "Most connections at a time"),
                _setting("superuser_reserved_connections", "Connections kept for superusers"),
                # https://www.postgresql.org/docs/16/release-16.html
                _setting("reserved_connections", "Connections kept for members of pg_use_reserved_connections", 160000),
                _setting("max_locks_per_transaction", "Locks per session that the shared lock table has room for, on average"),
                _setting("max_prepared_transactions", "Most prepared transactions at a time"),
                _setting("max_worker_processes", "Most background workers at a time"),
                _setting("max_wal_senders", "Most senders of WAL to standbys at a time"),
                _setting("max_replication_slots", "Most replication slots"),
                _setting("autovacuum_max_workers", "Most autovacuum workers at a time"),
                _setting("autovacuum_freeze_max_age", "Transactions after which a table is vacuumed whatever happens"),
            ),
        ),
        View(
            labels=("version()", "(v / 10000) || '.' || (v % 10000) || '.0'"),
            columns=(Column(_VERSION, "1"),),
            source="FROM (SELECT current_setting('server_version_num')::int) AS s(v)",
        ),
    ),
)
