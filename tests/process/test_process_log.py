"""What a real exporter says of its life, on its terminal and to whoever collects its lines."""

import json
from pathlib import Path

from exporter import __version__
from tests.running import Running
from tests.servers import closed_port, eventually_now

CONFIG = """
defaults: {{interval: 100ms}}
probes:
  app: {{type: http, url: 'http://127.0.0.1:{port}/'}}
  off: {{type: http, url: 'http://127.0.0.1:{port}/', enabled: false}}
"""


def test_a_life_is_four_lines_however_many_runs_fail(tmp_path: Path) -> None:
    """Where it listens and what it watches, the one change, and its end; each an object with its fields."""
    with closed_port() as port, Running(tmp_path, CONFIG.format(port=port), log_format="json") as exporter:
        eventually_now(lambda: exporter.samples("sidecar_probe_runs_total")[FAILED] >= 5, 20)
        url = exporter.url
        assert exporter.terminate(5) == 0
        lines = [json.loads(line) for line in exporter.log.read_text().splitlines()]
    started, change, ending, ended = lines
    outline = f"2 probes from {tmp_path / 'config.yaml'}, 1 of them disabled"
    assert started["message"] == f"sidecar-exporter {__version__} on {url}: {outline}"
    assert {name: change[name] for name in ("level", "probe", "status", "reason", "message")} == {
        "level": "warning",
        "probe": "app",
        "status": "unhealthy",
        "reason": "refused",
        "message": f"unhealthy, refused: connect 127.0.0.1:{port}: connection refused",
    }
    assert 0 <= change["duration"] < 1
    assert ending["message"].startswith("ending: ")
    assert ended["message"] == "ended"


FAILED = 'sidecar_probe_runs_total{probe="app",outcome="failure"}'
