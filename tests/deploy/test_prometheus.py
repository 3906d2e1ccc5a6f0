"""The shipped Prometheus files: promtool's checks and unit tests, then a real Prometheus on the real demo, whole and broken."""

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from exporter.demo.stage import Stage
from tests.conftest import Count
from tests.deploy.dashboards import DASHBOARDS, Panel, panels_of
from tests.prometheus import Prometheus, Sample, find
from tests.servers import POLL_SECONDS, eventually_now, found

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
CONFIGURATION, RULES = SHIPPED / "prometheus.yml", SHIPPED / "alerts.yaml"
UNIT_TESTS = sorted((SHIPPED / "tests").glob("*.yaml"))
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}

FASTER = 40.0
RATE_INTERVAL = "8s"
"""Grafana's $__rate_interval is four scrapes, a minute, which is four of the exporter's checks; the demo checks every 2 s."""
EMPTY_WHILE_HEALTHY = {"Root causes"}
DATA_SECONDS, SILENT_SECONDS, FIRED_SECONDS, RESOLVED_SECONDS = 30.0, 10.0, 60.0, 30.0
"""Deadlines; on a quiet machine it takes 2, 0, 17 and 3 seconds."""


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
    ("alert", "part", "instead"),
    [
        ("critical_probe_unhealthy", "(job, instance, cause)", "(job, instance, cause, probe)"),
        ("critical_probe_unhealthy", ' and on (job, instance, probe) sidecar_probe_info{critical="true"}', ""),
        ("critical_probe_unhealthy", "for: 1m", "for: 45s"),
        ("critical_probe_unhealthy", "for: 1m", "for: 75s"),
        ("circuit_open", "open|half_open", "open"),
        ("circuit_open", "open|half_open", "open|half_open|forced_open"),
        ("no_celery_workers", "celery_up == 0", "celery_up >= 0"),
        ("no_celery_workers", "sum by (job, instance, probe) (celery_worker_up) == 0", "celery_worker_up > 1"),
        ("no_celery_workers", "unless on (job, instance, probe) celery_worker_up", ""),
        ("no_celery_workers", '{reason="assertion"}', ""),
        ("no_celery_workers", "[2m]", "[10m]"),
        ("exporter_absent", 'up{job="sidecar"} == 0 or', ""),
        ("exporter_absent", 'or absent(up{job="sidecar"})', ""),
        ("exporter_absent", 'up{job="sidecar"} == 0', "up == 0"),
        ("config_reload_failed", "successful == 0", "successful == 1"),
    ],
)
def test_no_part_of_an_alert_can_go_unnoticed(tmp_path: Path, alert: str, part: str, instead: str) -> None:
    """Unit tests that pass with a part of the rule gone do not test it."""
    text = RULES.read_text()
    assert part in text
    (tmp_path / RULES.name).write_text(text.replace(part, instead))
    (tmp_path / "tests").mkdir()
    copy = shutil.copy(SHIPPED / "tests" / f"{alert}.yaml", tmp_path / "tests")
    tested = promtool("test", "rules", copy)
    assert (tested.returncode, "FAILED" in tested.stdout + tested.stderr) == (1, True), tested.stdout + tested.stderr


# --- live ---------------------------------------------------------------------------------------------------------------


LabelSet = tuple[str, ...]
"""An alert's name, and those of its labels that tell it from others of the name: `("CircuitOpen", "probe=redis")`."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The stage as a real Prometheus sees it."""

    stage: Stage
    prometheus: Prometheus

    def active(self, *states: str) -> set[LabelSet]:
        """The alerts that are in one of these states: pending, firing."""
        return {_label_set(alert["labels"]) for alert in self.prometheus.alerts() if alert["state"] in states}

    def fired_since(self, moment: float) -> set[LabelSet]:
        """All that have fired at any time since that monotonic moment."""
        window = math.ceil((time.monotonic() - moment) * 1000)
        return {_label_set(s.labels) for s in self.prometheus.query(f'count_over_time(ALERTS{{alertstate="firing"}}[{window}ms])')}

    def settles(self, wanted: set[LabelSet], within: float) -> bool:
        """Whether these and no others come to fire, and none is about to."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            if self.active("firing") == self.active("firing", "pending") == wanted:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def in_state(self, status: str) -> set[str]:
        """The probes of that confirmed status."""
        return {s.labels["probe"] for s in self.prometheus.query(f'sidecar_probe_status{{status="{status}"}} == 1')}

    def asks(self, expression: str) -> list[Sample]:
        """What Grafana would get for one query of a panel, with All exporters chosen; NaN is left out, as it draws nothing."""
        instances = "|".join(re.escape(s.labels["instance"]) for s in self.prometheus.query("sidecar_build_info"))
        for name, value in {"$__rate_interval": RATE_INTERVAL, "$instance": f"({instances})".replace("\\", r"\\")}.items():
            expression = expression.replace(name, value)
        assert "$" not in expression
        return [sample for sample in self.prometheus.query(expression) if not math.isnan(sample.value)]

    def has_data(self, panel: Panel) -> bool:
        """Whether every query of the panel brings a number, one of them other than 0, with the labels that its legend names."""
        answers = [(target, self.asks(target["expr"])) for target in panel["targets"]]
        for target, samples in answers:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            if not samples or not all(named <= sample.labels.keys() for sample in samples):
                return False
        return any(sample.value for _, samples in answers for sample in samples)

    def without_data(self, panels: list[Panel], within: float) -> set[str]:
        """Titles of the panels that had no data in that time; ends once all have had."""
        missing = {panel["title"]: panel for panel in panels}
        until = time.monotonic() + within
        while missing and time.monotonic() < until:
            missing = {title: panel for title, panel in missing.items() if not self.has_data(panel)}
        return set(missing)


def _label_set(labels: Mapping[str, str]) -> LabelSet:
    shared = {"alertname", "alertstate", "severity", "job", "instance", "env"}
    return (labels["alertname"], *(f"{name}={value}" for name, value in sorted(labels.items()) if name not in shared))


@pytest.fixture
def watch() -> Iterator[Watch]:
    """The demo whole and trading, and a Prometheus that has seen it so."""
    with found():
        stage = Stage(0)
    try:
        stage.show_targets()
        stage.exporter.start()  # last: a queue that its first look does not find is looked for again a minute later
        stage.trade()
        with found(), Prometheus(SHIPPED, f"127.0.0.1:{stage.exporter.port}", FASTER) as prometheus:
            watch = Watch(stage, prometheus)
            eventually_now(lambda: watch.in_state("healthy") == set(stage.targets), 30)
            yield watch
    finally:
        stage.close()


@pytest.mark.timeout(180)
def test_panels_have_data_and_exactly_the_right_alerts_fire(watch: Watch, count: Count) -> None:
    """What an operator looks at, on the servers it is made for: all well, Redis frozen, well again, the exporter gone."""
    began = time.monotonic()
    panels = [panel for path in DASHBOARDS for panel in panels_of(json.loads(path.read_text()))]
    while_broken = [panel for panel in panels if panel["title"] in EMPTY_WHILE_HEALTHY]
    assert len(while_broken) == len(EMPTY_WHILE_HEALTHY)
    _panels_have_data(watch, [panel for panel in panels if panel not in while_broken], count)
    _nothing_is_told(watch, while_broken, began, count)

    began = time.monotonic()
    watch.stage.broken("redis", "freeze")
    _told(watch, {("CriticalProbeUnhealthy", "cause=redis"), ("CircuitOpen", "probe=redis")}, began, count)
    eventually_now(lambda: watch.in_state("healthy") == set(watch.stage.targets) - {"redis"}, SILENT_SECONDS)
    _panels_have_data(watch, while_broken, count)

    watch.stage.healed("redis")
    assert watch.settles(set(), RESOLVED_SECONDS), watch.active("firing", "pending")

    began = time.monotonic()
    watch.stage.exporter.stop()
    _told(watch, {("ExporterAbsent",)}, began, count)


def _panels_have_data(watch: Watch, panels: list[Panel], count: Count) -> None:
    missing = watch.without_data(panels, DATA_SECONDS)
    count("panels with data", len(panels) - len(missing), len(panels))
    assert missing == set()


def _nothing_is_told(watch: Watch, empty: list[Panel], began: float, count: Count) -> None:
    """No alert has fired, none is about to, and the panels of what is wrong are empty."""
    watch.settles(set(), SILENT_SECONDS)
    loud = {alert for alert, *_ in (*watch.active("firing", "pending"), *watch.fired_since(began))}
    count("alerts silent", len(ALERTS) - len(loud), len(ALERTS))
    assert loud == set()
    assert [panel["title"] for panel in empty for target in panel["targets"] if watch.asks(target["expr"])] == []


def _told(watch: Watch, wanted: set[LabelSet], began: float, count: Count) -> None:
    """These alerts fire, and no other has since then."""
    settled = watch.settles(wanted, FIRED_SECONDS)
    fired = watch.fired_since(began)
    count("alerts fired right", len(wanted & fired), len(wanted | fired))
    assert fired == wanted
    assert settled, watch.active("firing", "pending")
