"""Locks held or awaited, by database and mode; postgres_exporter's names (0.20, collector/pg_locks.go).

Reading pg_locks stops the lock manager for a moment: https://www.postgresql.org/docs/current/view-pg-locks.html
"""

from exporter.probes.postgres.groups.view import Column, Group, View, gauge

_MODES = (
    "accesssharelock",
    "rowsharelock",
    "rowexclusivelock",
    "shareupdateexclusivelock",
    "sharelock",
    "sharerowexclusivelock",
    "exclusivelock",
    "accessexclusivelock",
    "sireadlock",
)
_VALUES = ", ".join(f"('{mode}')" for mode in _MODES)

LOCKS = Group(
    views=(
        View(
            labels=("d.datname", "m.mode"),
            columns=(
                Column(
                    gauge(
                        "pg_locks_count",
                        "Locks of this mode, held and awaited, from pg_locks; without those of the session that asks.",
                        "datname",
                        "mode",
                    ),
                    "count(l.database)",
                ),
            ),
            # prepared transactions hold locks without a pid
            source=(
                f"FROM pg_database d CROSS JOIN (VALUES {_VALUES}) AS m(mode) LEFT JOIN pg_locks l"
                " ON l.database = d.oid AND lower(l.mode) = m.mode AND l.pid IS DISTINCT FROM pg_backend_pid()"
                " GROUP BY d.datname, m.mode"
            ),
        ),
    ),
)
