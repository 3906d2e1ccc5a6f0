"""The benchmarks run: in a mode of a second or two, whose figures mean nothing and are not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import SCRIPTS
from benchmarks.common.table import HEAD, Row, table

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
LONGEST_SECONDS = 50.0


def quick(name: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """A benchmark as a user starts it, from another folder and with nothing of our environment but PATH."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, cwd="/", env={"PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_runs_and_prints_well_formed_rows(name: str) -> None:
    """So that they do not rot between one release and the next."""
    ended = quick(name, "--json")
    assert ended.returncode == 0, ended.stderr
    rows = [Row(**json.loads(line)) for line in ended.stdout.splitlines()]
    assert rows
    assert {row.name for row in rows} == {name}
    assert all(row.what and (row.ours or row.reference) for row in rows)
    assert all((row.held is None) == (not row.wanted) for row in rows)
    assert any(row.ratio is not None and row.ratio > 0 for row in rows)


def test_each_stands_in_the_table_of_make_bench() -> None:
    """A benchmark that nobody runs says nothing."""
    assert set(SCRIPTS) == {file.stem for file in FOLDER.glob("*.py")} - {"__main__"}


def test_the_table_is_one_of_markdown_and_says_what_is_lost() -> None:
    """It is pasted into the README as it stands."""
    rows = [Row("some", "what", "1 ms", "2 ms", 0.5, "≤ 1 ×", True), Row("some", "other", "3 ms", "2 ms", 1.5, "≤ 1 ×", False)]
    head, rule, *body = table([*rows, Row("some", "third", "4 ms")]).splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == list(HEAD)
    assert set(rule) == {"|", "-"}
    assert len({len(line) for line in (head, rule, *body)}) == 1
    assert [line.strip("| ").rpartition("| ")[2] for line in body[:2]] == ["ok", "lost"]
