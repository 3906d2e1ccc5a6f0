"""A real exporter whose loop is blocked from within: its own health says so, in the log and in its numbers."""

import json
import signal
from pathlib import Path

from tests.running import Running
from tests.servers import eventually_now

CONFIG = "probes: {app: {type: http, url: 'http://127.0.0.1:1/', interval: 60s}}"

BLOCKING = '''\
"""Scales the watchdog's limit, and blocks the main thread for two seconds at each SIGUSR1: that is where the loop runs."""

import signal
import time

from exporter import watchdog

watchdog.LIMIT_SECONDS = 1.2


def a_slow_driver(number, frame):
    time.sleep(2.0)


signal.signal(signal.SIGUSR1, a_slow_driver)
'''


def test_a_blocked_loop_is_told_with_its_place_and_is_a_lag_but_no_reason_to_restart(tmp_path: Path) -> None:
    """One line while it lasts, one when it is over; /livez stands, for one lag is none of its two conditions."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BLOCKING)
    with Running(tmp_path, CONFIG, {"PYTHONPATH": str(site)}, log_format="json") as exporter:
        eventually_now(lambda: exporter.samples("sidecar_scheduler_heartbeat_timestamp_seconds"), 10)

        def said(what: str) -> list[str]:
            lines = [json.loads(line)["message"] for line in exporter.log.read_text().splitlines()]
            return [line for line in lines if what in line]

        exporter.process.send_signal(signal.SIGUSR1)
        stuck = eventually_now(lambda: said("has not turned"), 10)
        assert "sitecustomize.py:12 a_slow_driver" in stuck[0]
        eventually_now(lambda: said("turns again after"), 10)
        assert exporter.get("/livez") == (200, "ok")
        assert exporter.samples("sidecar_event_loop_lag_seconds")["sidecar_event_loop_lag_seconds"] >= 0
        assert "at most" in exporter.get("/", Accept="text/html")[1]
        assert exporter.terminate(5) == 0
        assert (len(said("has not turned")), len(said("turns again after"))) == (1, 1)
    assert "Timeout (" not in exporter.said
