"""The probe type that CONTRIBUTING.md describes, built from its own text and run in an exporter."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.echo import echo_server

ROOT = Path(__file__).parent.parent


def _blocks() -> dict[str, str]:
    """The code blocks of the guide by the file they say they are."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.findall(r"\d\. (?:`([^`]+)`[^\n]*|One row in `([^`]+)`:)\n+ +```python\n(.*?) +```", text, re.DOTALL)
    return {file or row: "\n".join(line.removeprefix("   ") for line in code.splitlines()) + "\n" for file, row, code in found}


@pytest.fixture
def echo_port() -> Iterator[int]:
    with echo_server() as port:
        yield port


def test_the_type_of_the_guide_works(tmp_path: Path, echo_port: int) -> None:
    """A new backend is one folder and one row: nothing else in the package may have to change."""
    blocks = _blocks()
    assert sorted(blocks) == ["exporter/probes/__init__.py", "exporter/probes/echo/probe.py", "exporter/probes/echo/settings.py"]
    shutil.copytree(ROOT / "exporter", tmp_path / "exporter", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "exporter/probes/echo"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for file in ("settings.py", "probe.py"):
        (folder / file).write_text(blocks[f"exporter/probes/echo/{file}"])
    table = tmp_path / "exporter/probes/__init__.py"
    row = blocks["exporter/probes/__init__.py"].strip()
    table.write_text(table.read_text().replace('    "http": ', f'    {row}\n    "http": '))
    (tmp_path / "config.yaml").write_text(f"probes:\n  echo: {{type: echo, host: 127.0.0.1, port: {echo_port}}}\n")
    command = [sys.executable, "-m", "exporter", "probe", "echo", "-c", "config.yaml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, env={"PATH": ""})
    assert (result.returncode, result.stderr) == (0, "")
    assert 'echo_up{probe="echo"} 1' in result.stdout


def test_the_guide_is_lint_clean(tmp_path: Path) -> None:
    """What a contributor copies passes the checks that will be run on it."""
    for file, code in _blocks().items():
        if file.endswith(("settings.py", "probe.py")):
            (tmp_path / Path(file).name).write_text(code)
    ruff = Path(sys.executable).with_name("ruff")
    command = [str(ruff), "check", "--config", str(ROOT / "pyproject.toml"), "--ignore", "INP001,RUF012,I001", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stdout
