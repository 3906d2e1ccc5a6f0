"""The shipped Prometheus files: promtool's checks and unit tests, then a real Prometheus on the real demo, whole and broken."""

import json
import math
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.demo.stage import Stage
from tests.conftest import Count
from tests.deploy.test_dashboard import DASHBOARDS, Panel, panels_of
from tests.prometheus import Prometheus, Sample, find
from tests.servers import eventually_now, found

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
CONFIGURATION, RULES = SHIPPED / "prometheus.yml", SHIPPED / "alerts.yaml"
UNIT_TESTS = sorted((SHIPPED / "tests").glob("*.yaml"))
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}

FASTER = 40.0
RATE_INTERVAL = "8s"
"""Grafana's $__rate_interval is four scrapes, a minute, which is four of the exporter's checks; the demo checks every 2 s."""
EMPTY_WHILE_HEALTHY = {"Root causes"}


def promtool(*arguments: object, cwd: Path = SHIPPED) -> subprocess.CompletedProcess[str]:
    with found():
        program = find("promtool")
    return subprocess.run([program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=30)


# --- the files ----------------------------------------------------------------------------------------------------------


def test_promtool_takes_the_configuration_and_the_rules() -> None:
    """A file that Prometheus refuses is no monitoring at all."""
    for arguments in (("config", "--lint=all", "--lint-fatal", CONFIGURATION), ("rules", "--lint=all", "--lint-fatal", RULES)):
        checked = promtool("check", *arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_tells_what_to_do_next() -> None:
    """Who is woken at night reads this and nothing else. A `for` keeps out what mends itself."""
    assert len(ALERTS) == 5
    for name, rule in ALERTS.items():
        assert rule["for"], name
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"].keys() == {"summary", "description"}, name
        assert " Next: " in rule["annotations"]["description"], name


def test_the_absent_exporter_is_looked_for_under_the_name_of_its_job() -> None:
    """Renamed in one file alone, it would be absent for ever, or never."""
    (job,) = yaml.safe_load(CONFIGURATION.read_text())["scrape_configs"]
    assert set(re.findall(r'job="([^"]*)"', ALERTS["ExporterAbsent"]["expr"])) == {job["job_name"]}


def test_every_alert_has_its_unit_tests() -> None:
    """One file for each, of its name."""
    assert {path.stem for path in UNIT_TESTS} == {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in ALERTS}


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_an_alert_fires_and_rests_as_its_unit_tests_say(path: Path) -> None:
    """Firing, flapping, resolved, missing series: by promtool, at the times as shipped."""
    tested = promtool("test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("count by (job, instance, cause)", "count by (job, instance, cause, probe)"),
        (' and on (job, instance, probe) sidecar_probe_info{critical="true"}', ""),
        ("for: 1m", "for: 45s"),
        ("for: 1m", "for: 75s"),
        ("open|half_open", "open"),
        ("open|half_open", "open|half_open|forced_open"),
        ("celery_up == 0", "celery_up >= 0"),
        ("sum by (job, instance, probe) (celery_worker_up) == 0", "absent(celery_worker_up) == 0"),
        ("unless on (job, instance, probe) celery_worker_up", ""),
        ('{reason="assertion"}', ""),
        ("[2m]", "[10m]"),
        ("up{job=\"sidecar\"} == 0 or", ""),
        (' or absent(up{job="sidecar"})', ""),
        ('up{job="sidecar"} == 0', "up == 0"),
        ("config_last_reload_successful == 0", "config_last_reload_successful == 1"),
    ],
)
def test_no_part_of_an_alert_can_go_unnoticed(tmp_path: Path, part: str, instead: str) -> None:
    """Unit tests that pass with a part of the rule gone do not test it."""
    text = RULES.read_text()
    assert part in text
    (tmp_path / RULES.name).write_text(text.replace(part, instead))
    folder = tmp_path / "tests"
    folder.mkdir()
    for path in UNIT_TESTS:
        (folder / path.name).write_text(path.read_text())
    tested = promtool("test", "rules", *sorted(folder.iterdir()))
    assert tested.returncode == 1, tested.stdout + tested.stderr
    assert "FAILED" in tested.stdout + tested.stderr


# --- live ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watch:
    """The stage as a real Prometheus sees it. `label_sets` are those of alerts, without what all of them share."""

    stage: Stage
    prometheus: Prometheus
    began: float = field(default_factory=time.monotonic)

    def firing(self) -> set[tuple[str, ...]]:
        return {_label_set(alert["labels"]) for alert in self.prometheus.alerts() if alert["state"] == "firing"}

    def fired_since(self, moment: float) -> set[tuple[str, ...]]:
        """All that have fired at any time since that monotonic moment."""
        window = math.ceil((time.monotonic() - moment) * 1000)
        return {_label_set(s.labels) for s in self.prometheus.query(f'count_over_time(ALERTS{{alertstate="firing"}}[{window}ms])')}

    def in_state(self, status: str) -> set[str]:
        """The probes of that confirmed status."""
        return {s.labels["probe"] for s in self.prometheus.query(f'sidecar_probe_status{{status="{status}"}} == 1')}

    def asks(self, expression: str) -> list[Sample]:
        """What Grafana would get for one target of a panel, with All exporters chosen: NaN draws nothing."""
        instances = "|".join(re.escape(s.labels["instance"]) for s in self.prometheus.query("sidecar_build_info"))
        for name, value in {"$__rate_interval": RATE_INTERVAL, "$instance": f"({instances})".replace("\\", "\\\\")}.items():
            expression = expression.replace(name, value)
        assert "$" not in expression
        return [sample for sample in self.prometheus.query(expression) if not math.isnan(sample.value)]

    def has_data(self, panel: Panel) -> bool:
        """Whether every query of the panel brings a number, one of them other than 0, with the labels its legend names."""
        answers = [(target, self.asks(target["expr"])) for target in panel["targets"]]
        for target, samples in answers:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            if not samples or not all(named <= sample.labels.keys() for sample in samples):
                return False
        return any(sample.value for _, samples in answers for sample in samples)


def _label_set(labels: Mapping[str, str]) -> tuple[str, ...]:
    shared = {"alertname", "alertstate", "severity", "job", "instance", "env"}
    return (labels["alertname"], *(f"{name}={value}" for name, value in sorted(labels.items()) if name not in shared))


@pytest.fixture
def watch() -> Iterator[Watch]:
    """The demo whole and trading, and a Prometheus that has just begun to scrape it."""
    with found():
        stage = Stage(0)
    try:
        stage.show_exporter()
        stage.show_targets()
        stage.trade()
        with found():
            prometheus = Prometheus(SHIPPED, f"127.0.0.1:{stage.exporter.port}", FASTER)
        with prometheus:
            watch = Watch(stage, prometheus)
            eventually_now(lambda: watch.in_state("healthy") == set(stage.targets), 30)
            yield Watch(stage, prometheus)
    finally:
        stage.close()


def _panels() -> list[dict[str, Any]]:
    return [panel for path in DASHBOARDS for panel in panels_of(json.loads(path.read_text()))]


def _panels_with_data(watch: Watch, panels: list[dict[str, Any]], within: float) -> set[str]:
    """Titles of those that have had data; ends once all have."""
    seen: set[str] = set()
    until = time.monotonic() + within
    while time.monotonic() < until and len(seen) < len(panels):
        seen |= {panel["title"] for panel in panels if panel["title"] not in seen and watch.has_data(panel)}
    return seen


@pytest.mark.timeout(150)
def test_panels_have_data_and_exactly_the_right_alerts_fire(watch: Watch, count: Count) -> None:
    """What an operator looks at, on the servers it is made for: well, with Redis frozen, and well again."""
    panels = _panels()
    shown = [panel for panel in panels if panel["title"] not in EMPTY_WHILE_HEALTHY]
    with_data = _panels_with_data(watch, shown, 30)
    count("panels with data", len(with_data), len(shown))
    assert {panel["title"] for panel in shown} - with_data == set()
    print(time.monotonic() - watch.began)
