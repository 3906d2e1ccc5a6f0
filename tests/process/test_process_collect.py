"""Collectors on schedules of their own, seen from outside and on a real server."""

from pathlib import Path

from exporter.demo.servers import Postgres
from tests.running import Running
from tests.servers import eventually_now

READ = "sidecar_collector_last_success_timestamp_seconds"


def test_each_collector_of_a_mapping_keeps_its_own_interval(tmp_path: Path, postgres_server: Postgres) -> None:
    """What is costly is read once an hour beside what is read five times a second, and stays until its own age is reached."""
    text = (
        f"probes:\n  db:\n    type: postgres\n    url: {postgres_server.url}\n    interval: 10s\n"
        "    collect:\n      activity: {interval: 200ms, timeout: 200ms}\n      database: {interval: 1h, stale_after: 3h}\n"
    )
    with Running(tmp_path, text) as exporter:
        rows = {name: f'{READ}{{probe="db",collector="{name}"}}' for name in ("activity", "database")}
        eventually_now(lambda: set(rows.values()) <= exporter.samples(READ).keys(), 15)
        first = exporter.samples(READ)
        eventually_now(lambda: exporter.samples(READ)[rows["activity"]] > first[rows["activity"]] + 0.5, 15)
        assert exporter.samples(READ)[rows["database"]] == first[rows["database"]]
        assert exporter.samples("pg_database_size_bytes", "pg_stat_activity_count")
        assert set(exporter.health("db")["collectors"]) == {"activity", "database"}
