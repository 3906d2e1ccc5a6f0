"""The schema of the configuration: published, complete, and of one mind with the loader."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.config.check import check
from exporter.config.document import parse
from exporter.config.expand import Sources
from exporter.config.findings import Findings, Place
from exporter.errors import ConfigError
from tests.conftest import Count
from tests.schemas import mistakes, tree, types, validator

ROOT = Path(__file__).parent.parent.parent
PUBLISHED = ROOT / "docs" / "config.schema.json"
EXAMPLE = ROOT / "config.example.yaml"
BAD = ROOT / "tests" / "data" / "bad-config"

LEAST_REFUSED = 28
"""Of the files in bad-config: the others have mistakes that lie between two places, or within a text."""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "exporter", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30)


def test_the_published_schema_is_fresh() -> None:
    """Equal to what the command writes; after a change of the settings: exporter generate schema > docs/config.schema.json."""
    result = run("generate", "schema")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == PUBLISHED.read_text()


@pytest.mark.parametrize("arguments", [["generate"], ["generate", "shema"], ["-c", "x.yaml", "generate", "schema", "docs"]])
def test_what_cannot_be_generated_is_a_usage_error_that_names_what_can(arguments: list[str]) -> None:
    """Exit status 2, as for every wrong use."""
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "schema" in result.stderr


def test_the_example_names_the_schema_and_suits_it() -> None:
    """Editors follow the line from the folder of the file."""
    (named,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", EXAMPLE.read_text(), re.MULTILINE)
    assert (ROOT / named).samefile(PUBLISHED)
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--schemafile", str(PUBLISHED), str(EXAMPLE)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert mistakes(EXAMPLE.read_bytes()) == []


def _objects(node: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping of the schema in which properties are named, with its place."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield path, node
        for key, inner in node.items():
            yield from _objects(inner, f"{path}/{key}")
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from _objects(inner, f"{path}/{index}")


def test_every_property_is_described_and_every_mapping_closed() -> None:
    """What an editor shows beside a key, and why it can underline a misspelt one."""
    made = json.loads(PUBLISHED.read_text())
    found = list(_objects(made))
    assert len(found) >= 15
    for path, node in found:
        assert node["additionalProperties"] is False, path
        for name, told in node["properties"].items():
            assert re.fullmatch(r"[A-Z].*\.|[a-z]+://.*\.", told["description"]), f"{path}: {name}"
    assert "title" not in str(made["$defs"])


def test_the_type_tells_which_keys_there_are() -> None:
    """One arm for each type, each with its word."""
    made = json.loads(PUBLISHED.read_text())
    arms = made["properties"]["probes"]["additionalProperties"]["oneOf"]
    found = [made["$defs"][arm["$ref"].rpartition("/")[2]] for arm in arms]
    assert [arm["properties"]["type"]["const"] for arm in found] == list(types())
    assert all("type" in arm["required"] for arm in found)
    assert [next(iter(arm["properties"])) for arm in found] == ["type"] * len(found)


def test_defaults_are_as_somebody_would_write_them() -> None:
    """An editor puts them in."""
    keys = json.loads(PUBLISHED.read_text())["$defs"]["PostgresSettings"]["properties"]
    assert keys["interval"]["default"] == "15s"
    assert keys["collect"]["default"] == ["database", "activity", "locks", "replication", "settings"]
    assert "default" not in keys["timeout"]
    assert "default" not in keys["pool"]


def test_bad_files_are_refused_as_far_as_a_schema_can(count: Count) -> None:
    """Who types them sees most mistakes before anything is run."""
    trees = {path.stem: tree(path.read_bytes()) for path in sorted(BAD.glob("*.yaml"))}
    readable = {name: written for name, written in trees.items() if written is not None}
    passed = [name for name, written in readable.items() if validator().is_valid(written)]
    refused = len(readable) - len(passed)
    count("bad files refused by the schema", refused, len(readable))
    print(f"{len(trees) - len(readable)} more are no YAML; passed: {', '.join(passed)}")
    assert refused >= LEAST_REFUSED


DB = "probes: {db: {type: postgres, url: postgresql://127.0.0.1/x, %s}}"


@pytest.mark.parametrize(
    "keys",
    [
        'interval: "${EVERY}"',
        'interval: "${EVERY:-15s}", timeout: "${WAIT:-2}s"',
        'enabled: "${ON:-true}", critical: "false"',
        'port: "${PORT}", failure_threshold: "3"',
        'retry: "${RETRY:-none}", circuit: "${CIRCUIT}"',
        'aliases: ["${ALIAS}"], collect: ["${GROUP}"]',
        "circuit: null, timeout: null",
        "circuit: off, retry: {attempts: 2}",
        "interval: 1m30s, stale_after: 1d2h3m4.5s6ms",
        "collect: {locks: null, database: {interval: 5m}}, collect2: 1",
    ],
)
def test_what_the_loader_converts_is_taken(keys: str) -> None:
    """A `${…}` wherever a scalar stands, numbers and switches in quotes, nothing where nothing is meant."""
    expected = ["collect2"] if "collect2" in keys else []
    told = mistakes((DB % keys).encode())
    assert len(told) == len(expected), told


SAMPLES: list[object] = [
    *("", " ", "x", "5", "05", "-1", "true", "True", "on", "off", "no", "none", "fast", "GET", "get", "Get", "TLS12", "2xx", "2XX"),
    *("204", "999", "15s", "1ms", "0s", "0.0s", "1h30m", "5m3ms", "15", "64MiB", "1 KB", "99999d", "a b", "a.b", "/run/x"),
    *(0, 1, 2, 5, 99, 204, 999, 70000, -1, 1.5, True, False, None, [], {}, ["a"], ["a", "a"], [1], [None], ["2xx", 204]),
    *({"a": "b"}, {"a": 1}, {"job": "b"}, {"a b": "c"}, {"size": 2}, {"size": "4"}, {"attempts": 1}, {"ca_file": "x"}),
    *(
        ["locks"],
        ["info"],
        {"locks": None},
        {"info": {"interval": "1s"}},
        {"locks": {"every": "1s"}},
        {"username": "u", "password": "p"},
    ),
]
LEAST: dict[str, dict[str, object]] = {
    "postgres": {"url": "postgresql://localhost/x"},
    "redis": {"url": "redis://localhost"},
    "rabbitmq": {"url": "amqp://localhost/"},
    "celery": {"broker_url": "amqp://localhost/"},
    "http": {"url": "http://localhost/"},
}


def _loads(probe: dict[str, object]) -> bool:
    content = json.dumps({"probes": {"p": probe}}).encode()  # JSON is YAML
    findings = Findings()
    try:
        check(parse(content, "c.yaml", findings), Place("c.yaml", 1, 1), Sources({}), findings)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("type_name", types())
def test_key_by_key_the_schema_takes_what_the_loader_takes(type_name: str, count: Count) -> None:
    """And refuses most of what that refuses: the rest are rules between two places, or within a text such as a URL."""
    least = {"type": type_name, **LEAST[type_name]}
    probes = [least | {key: value} for key in types()[type_name].model_fields if key != "type" for value in SAMPLES]
    judged = [(probe, _loads(probe), validator().is_valid({"probes": {"p": probe}})) for probe in probes]
    underlined = [probe for probe, loads, suits in judged if loads and not suits]
    passed = [probe for probe, loads, suits in judged if suits and not loads]
    good = sum(loads for _, loads, _ in judged)
    count("values that load and that the schema takes", good - len(underlined), good)
    count("values that do not load and that the schema refuses", len(judged) - good - len(passed), len(judged) - good)
    assert underlined == []
    assert len(passed) < 0.1 * (len(judged) - good), passed
