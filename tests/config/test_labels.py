"""Static labels: where they come from, which of two wins, which are refused, and that every series has them."""

import re
from pathlib import Path

import pytest

from exporter.config import load
from exporter.config.series import label_problem
from exporter.errors import ConfigError
from exporter.exposition import own
from exporter.exposition.process import Process
from exporter.model import Metric
from exporter.probes.fields import RESERVED_LABELS
from tests.running import Running
from tests.servers import closed_port, eventually_now

QUERY = "{q: {sql: SELECT 1, metrics: {trades_total: {type: counter, help: T., value: v, labels: [symbol]}}}}"


def labels(folder: Path, text: str, **environ: str) -> dict[str, dict[str, str]]:
    """The labels on a series of each probe as they are served, in their order."""
    with Running(folder, text, environ) as exporter:
        page = exporter.get("/metrics")[1]
    series = re.findall(r"^sidecar_probe_interval_seconds\{(.*)\} ", page, re.MULTILINE)
    found = (dict(re.findall(r'(\w+)="([^"]*)"', one)) for one in series)
    return {one["probe"]: one for one in found}


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong, without the file's name."""
    path = folder / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    return [str(problem).partition("c.yaml:")[2] for problem in caught.value.problems]


def test_a_probes_own_label_wins_over_a_defaults_and_that_over_the_tops(tmp_path: Path) -> None:
    """`labels` under `defaults` is a default as any other: the probe's own mapping replaces it; those at the top remain."""
    text = (
        "labels: {env: prod, team: top, zone: a}\ndefaults: {labels: {team: default, tier: b}}\nprobes:\n"
        "  one: {type: http, url: 'http://127.0.0.1/'}\n"
        "  two: {type: http, url: 'http://127.0.0.1/', labels: {team: own}}\n"
        "  three: {type: http, url: 'http://127.0.0.1/', labels: {}}\n"
    )
    assert labels(tmp_path, text) == {
        "one": {"probe": "one", "env": "prod", "team": "default", "zone": "a", "tier": "b"},
        "two": {"probe": "two", "env": "prod", "team": "own", "zone": "a"},
        "three": {"probe": "three", "env": "prod", "team": "top", "zone": "a"},
    }


def test_a_value_can_come_from_outside_and_has_to_be_text(tmp_path: Path) -> None:
    """A number would be read as one by YAML, and shown in another form."""
    text = "labels: {env: '${ENV}'}\nprobes: {a: {type: http, url: 'http://127.0.0.1/', labels: {rack: '07'}}}\n"
    assert labels(tmp_path, text, ENV="stage") == {"a": {"probe": "a", "env": "stage", "rack": "07"}}
    assert problems(tmp_path, text.replace("'07'", "7").replace("'${ENV}'", "x")) == [
        "2:67: probes.a.labels.rack: not text; put it in quotes"
    ]


@pytest.mark.parametrize("name", [*RESERVED_LABELS, "__address__", "1a", "a-b", "dataCenter"])
def test_a_reserved_label_is_refused_at_the_top_and_at_a_probe(tmp_path: Path, name: str) -> None:
    """Prometheus would rename it, or drop the series."""
    top = f"labels: {{'{name}': x}}\nprobes: {{a: {{type: http, url: 'http://127.0.0.1/'}}}}\n"
    own = f"probes: {{a: {{type: http, url: 'http://127.0.0.1/', labels: {{'{name}': x}}}}}}\n"
    default = f"defaults: {{labels: {{'{name}': x}}}}\nprobes: {{a: {{type: http, url: 'http://127.0.0.1/'}}}}\n"
    assert problems(tmp_path, top) == [f"1:10: labels.{name}: {label_problem(name)}"]
    assert problems(tmp_path, own) == [f"1:61: probes.a.labels.{name}: {label_problem(name)}"]
    assert problems(tmp_path, default) == [f"1:21: defaults.labels.{name}: {label_problem(name)}"]


@pytest.mark.parametrize(
    ("name", "probe", "metric"),
    [
        ("symbol", f"{{type: postgres, host: h, queries: {QUERY}%s}}", "trades_total"),
        ("datname", "{type: postgres, host: h%s}", "pg_.*"),
        ("db", "{type: redis, host: h%s}", "redis_db_.*"),
        ("queue", "{type: rabbitmq, host: h%s}", "rabbitmq_queue_.*"),
        ("queue_name", "{type: celery, broker_url: 'amqp://h'%s}", "celery_.*"),
        ("phase", "{type: http, url: 'http://h/'%s}", "probe_http_duration_seconds"),
    ],
)
def test_a_label_that_a_series_has_by_itself_is_refused(tmp_path: Path, name: str, probe: str, metric: str) -> None:
    """One of the two values would be lost; whether it is a query's or a built-in metric's makes no difference."""
    for text, place in (
        (f"labels: {{{name}: x}}\nprobes:\n  a: {probe % ''}\n", f"labels.{name}"),
        (f"probes:\n  a: {probe % f', labels: {{{name}: x}}'}\n", f"probes.a.labels.{name}"),
    ):
        (told,) = problems(tmp_path, text)
        assert re.fullmatch(rf"\d+:\d+: {place}: is a label of ({metric}) by itself; choose another name", told), told


def test_a_label_that_only_another_probes_series_have_is_fine(tmp_path: Path) -> None:
    """The rule is about one series."""
    other = "{type: http, url: 'http://127.0.0.1/', labels: {symbol: x}}"
    text = f"probes:\n  a: {{type: postgres, host: h, queries: {QUERY}}}\n  b: {other}\n"
    assert labels(tmp_path, text)["b"] == {"probe": "b", "symbol": "x"}


def test_every_label_of_the_exporters_own_series_is_refused(tmp_path: Path) -> None:
    """Those of single probes everywhere, those of the process at the top alone."""
    metrics = [value for value in vars(own).values() if isinstance(value, Metric)]
    process = [family.metric for family in Process().families()]
    for metric in (*metrics, *process):
        for name in set(metric.labels) - {"probe"}:
            (told,) = problems(tmp_path, f"labels: {{{name}: x}}\nprobes: {{a: {{type: http, url: 'http://127.0.0.1/'}}}}\n")
            assert told.startswith(f"1:10: labels.{name}: "), metric.name
    text = "probes: {a: {type: http, url: 'http://127.0.0.1/', labels: {code: x}}}\n"
    assert labels(tmp_path, text)["a"]["code"] == "x"


def test_every_series_served_has_them(tmp_path: Path) -> None:
    """Also those of the process, and one whose probe has never answered."""
    with closed_port() as port:
        text = (
            'labels: {env: "pr\\"od"}\nprobes:\n'
            f"  app: {{type: http, url: 'http://127.0.0.1:{port}/', interval: 500ms, labels: {{team: core}}}}\n"
            f"  off: {{type: http, url: 'http://127.0.0.1:{port}/', enabled: false, labels: {{env: other}}}}\n"
        )
        with Running(tmp_path, text) as exporter:
            eventually_now(lambda: exporter.status("app") == "unhealthy", 15)
            page = exporter.get("/metrics")[1]
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    assert {line for line in lines if 'env="pr\\"od"' not in line and 'env="other"' not in line} == set()
    assert all(('team="core"' in line) == ('probe="app"' in line) for line in lines)
    assert all(('env="other"' in line) == ('probe="off"' in line) for line in lines)
    assert any(line.startswith("process_") for line in lines)
    assert 'probe_success{probe="app",env="pr\\"od",team="core"} 0' in lines
