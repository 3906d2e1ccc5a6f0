"""Every metric and label that a file under deploy/ names is one that the exporter, run with the example, emits."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from exporter.config import load
from exporter.exposition import own
from exporter.exposition.process import Process
from exporter.model import Kind, Metric
from exporter.web import tally
from tests.deploy.promql import Grouping, Selector, uses

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
URLS = {"DATABASE_URL": "postgresql://127.0.0.1/x", "REDIS_URL": "redis://127.0.0.1", "RABBITMQ_URL": "amqp://127.0.0.1"}

TARGET = frozenset({"job", "instance"})
BY_PROMETHEUS = ("up", "scrape_duration_seconds", "scrape_samples_scraped")
ALERTS = ("ALERTS", "ALERTS_FOR_STATE")
NO_METRIC = {"sidecar_exporter"}  # as the program is called where a hyphen may not stand

Labels = Mapping[str, frozenset[str]]


def _exposed(metric: Metric, also: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    labels = frozenset(metric.labels) | also
    if metric.kind is not Kind.HISTOGRAM:
        yield metric.name, labels
        return
    yield f"{metric.name}_bucket", labels | {"le"}
    yield from ((f"{metric.name}_{part}", labels) for part in ("sum", "count"))


def emitted() -> Labels:
    """All names that Prometheus can know of us, as exposed, with the labels of each."""
    example = load(ROOT / "config.example.yaml", URLS)
    everywhere = TARGET | example.labels.keys()
    of_probes = [own.PROBE_STATUS, own.ROOT_CAUSE, *(told.metric for told in own.OF_PROBE)]
    own_names = [metric for metric in vars(own).values() if isinstance(metric, Metric)]
    found: dict[str, frozenset[str]] = {}
    for metric in (*own_names, tally.REQUESTS, tally.DURATION, *(family.metric for family in Process().families())):
        found.update(_exposed(metric, everywhere))
    for probe in example.probes.values():
        for metric in (*of_probes, *probe.declared()):
            found.update(_exposed(metric, everywhere | {"probe"} | probe.labels.keys()))
    any_label = frozenset[str]().union(*found.values(), {"alertname", "alertstate", "severity"})
    return found | dict.fromkeys(BY_PROMETHEUS, TARGET) | dict.fromkeys(ALERTS, any_label)


@pytest.fixture(scope="module")
def known() -> Labels:
    return emitted()


def complaints(expression: str, known: Labels) -> list[str]:
    """What the expression names and nobody emits, or where it is no expression."""
    try:
        used = uses(expression)
    except ValueError as error:
        return [str(error)]
    return [*_unknown(used.selectors, known), *_nobodys(used.groupings, known)]


def _unknown(selectors: tuple[Selector, ...], known: Labels) -> Iterator[str]:
    for selector in selectors:
        labels = known.get(selector.metric)
        if labels is None:
            yield f"no metric {selector.metric}"
        else:
            yield from (f"{selector.metric} has no label {label}" for label in sorted(selector.labels - labels))


def _nobodys(groupings: tuple[Grouping, ...], known: Labels) -> Iterator[str]:
    for grouping in groupings:
        had = frozenset[str]().union(*(known.get(selector.metric, frozenset()) for selector in grouping.of))
        yield from (f"no label {label} in {', '.join(s.metric for s in grouping.of)}" for label in sorted(grouping.labels - had))


def _expressions(node: object) -> Iterator[str]:
    """PromQL wherever it may stand: in rules, panels, variables, annotations, and the series of unit tests."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "series") and isinstance(value, str):
                yield value
            elif key in ("query", "definition") and isinstance(value, str) and (asked := _label_values(value)):
                yield asked
            else:
                yield from _expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _expressions(value)


def _label_values(query: str) -> str:
    """Grafana's label_values(metric, label) as the PromQL that asks the same; "" of anything else."""
    match = re.fullmatch(r"label_values\((.+),\s*(\w+)\)", query.strip())
    return f"count by ({match[2]}) ({match[1]})" if match else ""


def _documents() -> list[Path]:
    return sorted(path for path in DEPLOY.rglob("*") if path.suffix in (".json", ".yaml", ".yml"))


def _named(path: Path) -> list[str]:
    """JSON is read as the YAML that it is too."""
    return [expression for document in yaml.safe_load_all(path.read_text()) for expression in _expressions(document)]


@pytest.mark.parametrize("path", _documents(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_expression_names_what_is_emitted(path: Path, known: Labels) -> None:
    """A panel or an alert on a name that nobody emits is silent for ever, and looks like all is well."""
    found = {expression: complaints(expression, known) for expression in _named(path)}
    assert {expression: said for expression, said in found.items() if said} == {}


def test_expressions_are_found_where_they_stand() -> None:
    """A check that reads nothing finds nothing."""
    counts = {path.name: len(_named(path)) for path in _documents()}
    assert counts["alerts.yaml"] == 5
    assert counts["no_celery_workers.yaml"] > 10
    assert counts["p2p-exchange-overview.json"] > 20


def test_own_names_in_comments_and_scripts_are_emitted_too(known: Labels) -> None:
    """What a comment tells an operator to look at must be there."""
    texts = {path: path.read_text() for path in DEPLOY.rglob("*") if path.is_file()}
    named = {(path.name, word) for path, text in texts.items() for word in re.findall(r"\bsidecar_[a-z_]+", text)}
    assert {(file, word) for file, word in named if word not in known and word not in NO_METRIC} == set()


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("sidecar_probe_upp", ["no metric sidecar_probe_upp"]),
        ("sum(rate(trades_executed[5m]))", ["no metric trades_executed"]),
        ("celery_task_duration_seconds", ["no metric celery_task_duration_seconds"]),
        ("celery_task_duration_seconds_bucket", []),
        ('redis_up{queue="x"}', ["redis_up has no label queue"]),
        ("sum by (queue) (celery_queue_length)", ["no label queue in celery_queue_length"]),
        ("sum(celery_queue_length) by (queue_name)", []),
        ("sum(celery_queue_length) by (queue)", ["no label queue in celery_queue_length"]),
        (
            "sum by (symbol) (redis_up) / on (symbol) trades_executed_total",
            ["no label symbol in redis_up"],
        ),
        ("redis_up * on (probe) group_left (critical) sidecar_probe_info", []),
        ("redis_up * on (probe) group_left (kind) sidecar_probe_info", ["no label kind in redis_up, sidecar_probe_info"]),
        ("up{probe='x'}", ["up has no label probe"]),
        ("rate(redis_commands_total[$__rate_interval]", ["'(' is never closed"]),
        ('{job="sidecar"}', ["a selector without a name: write the metric before its labels"]),
        ("redis_up ; 1", ["no PromQL from '; 1' on"]),
    ],
)
def test_a_name_that_nobody_emits_is_caught(expression: str, said: list[str], known: Labels) -> None:
    """The check is worth what it catches."""
    assert complaints(expression, known) == said


def test_an_expression_is_read_to_its_end() -> None:
    """Functions, keywords, strings, ranges and variables are no metrics, whatever they look like."""
    used = uses(
        """histogram_quantile(0.95, sum by (le) (rate(a_bucket{x=~"b|c{d}", y!='e'}[5m:30s] offset 1h30m))) # f_total
           > bool 1e3 and on (job) b:c unless ignoring (z) d{instance=~"$instance"} or vector(Inf) ^ 0x1f"""
    )
    assert [(selector.metric, sorted(selector.labels)) for selector in used.selectors] == [
        ("a_bucket", ["x", "y"]),
        ("b:c", []),
        ("d", ["instance"]),
    ]
    assert [(sorted(g.labels), [s.metric for s in g.of]) for g in used.groupings] == [
        (["le"], ["a_bucket"]),
        (["job"], ["a_bucket", "b:c", "d"]),
        (["z"], ["a_bucket", "b:c", "d"]),
    ]


def test_the_series_of_a_variable_are_asked_for_by_label() -> None:
    """A variable over a name that nobody emits empties every panel."""
    assert _label_values("label_values(sidecar_build_info, instance)") == "count by (instance) (sidecar_build_info)"
    assert _label_values("prometheus") == ""
