"""The reference of the configuration: fresh, complete, and true in its examples."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.config import load
from exporter.probes.base import CircuitSettings, ProbeSettings, RetrySettings, Settings, TlsSettings
from tests.conftest import Count
from tests.schemas import mistakes, types

ROOT = Path(__file__).parent.parent.parent
PUBLISHED = ROOT / "docs" / "configuration.md"
TEXT = PUBLISHED.read_text()

ENVIRON = {
    "DATABASE_URL": "postgresql://127.0.0.1/x",
    "REDIS_URL": "redis://127.0.0.1",
    "CELERY_BROKER_URL": "amqp://127.0.0.1",
    "REDIS_PASSWORD": "word",
    "APP_TOKEN": "t0ken",
}


def test_the_reference_is_fresh() -> None:
    """Equal to what the command writes; after a change of the settings: exporter generate docs > docs/configuration.md."""
    command = [sys.executable, "-m", "exporter", "generate", "docs"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == TEXT


def _blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_every_example_loads_and_suits_the_schema(tmp_path: Path, count: Count) -> None:
    """Each is a whole file, to be taken as it stands; only where secrets lie differs."""
    (tmp_path / "secret").write_text("word\n")
    loaded = 0
    for block in _blocks():
        path = tmp_path / "config.yaml"
        path.write_text(re.sub(r"\$\{file:[^}]+\}", f"${{file:{tmp_path / 'secret'}}}", block))
        loaded += bool(load(path, ENVIRON).probes)
        assert mistakes(path.read_bytes()) == []
    count("examples of the reference that load", loaded, len(_blocks()))
    assert loaded == len(_blocks()) > 10


def _section(heading: str) -> str:
    """From a heading to the next one of its level."""
    level = heading.partition(" ")[0]
    return TEXT.partition(f"\n{heading}\n")[2].partition(f"\n{level} ")[0]


def _keys(section: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize("name", types())
def test_every_key_of_a_type_has_a_row_and_every_type_an_example(name: str) -> None:
    """Own keys in the type's section, common ones where they are told for all."""
    section = _section(f"## Type `{name}`")
    own = set(types()[name].model_fields) - (set(ProbeSettings.model_fields) - {"type"})
    assert own == {key for key in _keys(section) if "." not in key}
    assert f"type: {name}" in section.partition("```yaml")[2]


def test_every_common_key_has_one_row() -> None:
    """Those within retry, circuit and tls too."""
    found = _keys(_section("## Keys of every probe"))
    common = set(ProbeSettings.model_fields) - {"type"}
    within: dict[str, type[Settings]] = {"retry": RetrySettings, "circuit": CircuitSettings, "tls": TlsSettings}
    expected = common | {f"{key}.{name}" for key, model in within.items() for name in model.model_fields}
    own_of_collectors = {"interval", "timeout", "stale_after"}
    presets = {"none", "fast", "quick", "steady", "patient"}
    assert set(found) - presets == expected
    assert sorted({key for key in found if found.count(key) > 1}) == sorted(own_of_collectors)


def test_every_row_says_something_and_nothing_of_our_tools() -> None:
    """It is read by people who know YAML, not Python."""
    tables = re.findall(r"\| key \| default \| meaning \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", TEXT)
    meanings = [row.rsplit(" | ", 1)[1] for table in tables for row in table.splitlines()]
    assert len(meanings) > 80
    assert all(re.fullmatch(r"([A-Z]|[a-z]+://).{3,}\. \|", meaning) for meaning in meanings)
    jargon = (
        r"pydantic|\bNone\b|null|anyOf|Annotated|tuple|\bdict\b|\bbool\b|\bint\b|\bstr\b|\$defs|\bTrue\b|\bFalse\b|Settings\b|model"
    )
    assert re.findall(jargon, TEXT) == []


def test_derived_defaults_are_told_as_what_they_derive_from() -> None:
    """Not as nothing, and not as the number that happens to come out."""
    table = _section("## Keys of every probe").partition("### Collectors")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", table, re.MULTILINE))
    assert rows["timeout"] == "5s, or the interval where that is shorter"
    assert rows["stale_after"] == "3 × its interval"
    assert rows["circuit.open_after"] == "5, or failure_threshold where that is more"
    assert rows["interval"] == "`15s`"
