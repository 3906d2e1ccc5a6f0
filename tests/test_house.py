"""Limits are tests, not memory: floors, file sizes, golden metric names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.exposition import own
from exporter.model import Kind, Metric
from exporter.probes import TYPES

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "data" / "metrics"
ROOMS = ("exporter", "tests", "benchmarks")
MOST_LINES = 600
ADDED_BY_PROMETHEUS = {"job", "instance", "cluster", "namespace"}
LATER = (
    "pg_stat_bgwriter_",  # the README says that this collector is still to come
    "celery_task_",  # celery_tasks_total and celery_task_duration_seconds say the same by label; one name for each state is to come
    "celery_worker_tasks_active",  # to come with the rest of what a heartbeat tells
)
# a template of that dashboard matches it everywhere, although no exporter gives it
GIVEN_BY_NOBODY = {"celery_worker_up": {"queue_name"}}

# the least configuration with which a type declares all of its built-in metrics
LEAST: dict[str, dict[str, object]] = {
    "postgres": {"url": "postgresql://localhost/x"},
    "redis": {"url": "redis://localhost"},
    "rabbitmq": {"url": "amqp://localhost/"},
    "celery": {"broker_url": "amqp://localhost/"},
    "http": {"url": "http://localhost/"},
}


def test_no_file_outgrows_its_room() -> None:
    """A file of more than 600 lines has more than one owner, a test as well."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    sizes = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in files}
    assert {str(path): size for path, size in sizes.items() if size > MOST_LINES} == {}


def test_floors_hold() -> None:
    """Each floor imports only from below; driver packages are imported in drivers alone."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout


def _listed(metrics: tuple[Metric, ...]) -> str:
    return "".join(sorted(f"{metric.name} {metric.kind} {{{','.join(metric.labels)}}}\n" for metric in metrics))


def _declared(name: str) -> tuple[Metric, ...]:
    """Of a probe type, or with `sidecar` the exporter's own."""
    if name == "sidecar":
        return tuple(value for value in vars(own).values() if isinstance(value, Metric))
    return TYPES[name].load_settings().model_validate({"type": name, **LEAST[name]}).declared()


@pytest.mark.parametrize("name", [*TYPES, "sidecar"])
def test_metric_names_kinds_and_labels_are_a_promise(name: str) -> None:
    """A rename cannot slip through: it changes a golden file, and that needs a line in the changelog."""
    assert _listed(_declared(name)) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", [*TYPES, "sidecar"])
def test_every_metric_says_what_it_is(name: str) -> None:
    """Help is a sentence, and a name stands once."""
    metrics = _declared(name)
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert metric.help.endswith("."), metric.name
        assert metric.kind in Kind


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "tests" / "data" / "compat").glob("*.json")])
def test_published_dashboards_find_their_names(name: str) -> None:
    """Somebody who switches touches no dashboard: every name they query is there, with every label they match."""
    served = {
        metric.name: {*metric.labels, *ADDED_BY_PROMETHEUS, *GIVEN_BY_NOBODY.get(metric.name, ())} for metric in _declared(name)
    }
    wanted = json.loads((ROOT / "tests" / "data" / "compat" / f"{name}.json").read_text())
    later = {metric for metric in wanted if metric.startswith(LATER)}
    assert {metric for metric in wanted if metric not in served} == later
    assert [metric for metric in wanted.keys() - later if not set(wanted[metric]["labels"]) <= served[metric]] == []


def test_every_dependency_has_its_reason() -> None:
    """A dependency without a reason on its line is one nobody will dare to remove."""
    text = (ROOT / "pyproject.toml").read_text()
    block = text.partition("dependencies = [")[2].partition("\n]")[0]
    entries = [line.strip() for line in block.splitlines() if line.strip().startswith('"')]
    assert len(entries) >= 8
    assert [entry for entry in entries if "#" not in entry] == []
