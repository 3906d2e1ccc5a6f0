"""Whether the server is a standby, and how far behind; postgres_exporter's names (0.20, collector/pg_replication.go).

Functions: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL, under these names since 10.
"""

from exporter.probes.postgres.groups.view import Column, Group, View, gauge

# NULL before the first replay, as subtraction keeps it; a clock that is behind the primary's gives 0
_BEHIND = "extract(epoch FROM greatest(clock_timestamp(), s.replayed) - s.replayed)"

REPLICATION = Group(
    views=(
        View(
            labels=(),
            columns=(
                Column(
                    gauge(
                        "pg_replication_lag_seconds",
                        "Seconds a standby is behind, from pg_last_xact_replay_timestamp(); 0 on a primary, and on a standby that"
                        " has replayed all it received, though a primary it cannot reach may be ahead."
                        " Absent until a standby has replayed a transaction.",
                    ),
                    f"CASE WHEN NOT s.standby OR pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 ELSE {_BEHIND} END",
                ),
                Column(
                    gauge("pg_replication_is_replica", "Whether the server is a standby: 1 or 0, from pg_is_in_recovery()."),
                    "s.standby",
                ),
                Column(
                    gauge(
                        "pg_replication_last_replay_seconds",
                        "Seconds since the last transaction that a standby replayed, from pg_last_xact_replay_timestamp();"
                        " grows while the primary is idle; absent on a primary.",
                    ),
                    f"CASE WHEN s.standby THEN {_BEHIND} END",
                ),
            ),
            source="FROM (SELECT pg_is_in_recovery(), pg_last_xact_replay_timestamp()) AS s(standby, replayed)",
        ),
    ),
)
