"""Probe types that other packages bring: one that is installed and run as a user would, and those that are broken."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.config import load
from exporter.errors import ConfigError
from exporter.generate import every_type
from exporter.probes import TYPES, installed
from exporter.probes.installed import Catalogue
from tests.echo import echo_server
from tests.running import Running
from tests.servers import closed_port, eventually_now

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "tests" / "data" / "example-probe"
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example package was installed to, by pip from its source."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "-qq", *options, "--target", str(folder), str(EXAMPLE)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with echo_server() as port:
        yield port


def run(site: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The exporter of this checkout beside what is installed at `site`."""
    command = [sys.executable, "-m", "exporter", *arguments]
    env = {"PATH": "", "PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, env=env)


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


# --- the example package ------------------------------------------------------------------------------------------------


def test_an_installed_type_is_checked_and_probed(site: Path, tmp_path: Path, echo_port: int) -> None:
    """Its keys are held to its settings, with places; its probe runs as any other."""
    written(tmp_path, f"probes:\n  echo: {{type: echo, host: 127.0.0.1, port: {echo_port}}}\n")
    checked = run(site, tmp_path, "check", "-c", "config.yaml")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "config.yaml: 1 probe, no problems\n", "")
    probed = run(site, tmp_path, "probe", "echo", "-c", "config.yaml")
    assert (probed.returncode, probed.stderr) == (0, "")
    assert 'echo_up{probe="echo"} 1' in probed.stdout
    assert re.search(r'echo_round_trip_seconds\{probe="echo"\} [0-9.e-]+', probed.stdout)


def test_its_series_are_served_and_its_failure_is_told(site: Path, tmp_path: Path, echo_port: int) -> None:
    """Health, metrics and reasons are the engine's: nothing had to be written for them."""
    with closed_port() as closed:
        text = (
            f"probes:\n  echo: {{type: echo, host: 127.0.0.1, port: {echo_port}}}\n"
            f"  gone: {{type: echo, host: 127.0.0.1, port: {closed}, interval: 300ms}}\n"
        )
        with Running(tmp_path, text, {"PYTHONPATH": str(site)}) as exporter:
            eventually_now(lambda: (exporter.status("echo"), exporter.status("gone")) == ("healthy", "unhealthy"), 15)
            assert exporter.health("gone")["reason"] == "refused"
            samples = exporter.samples("echo_")
            assert (samples['echo_up{probe="echo"}'], samples['echo_up{probe="gone"}']) == (1, 0)
            assert 0 < samples['echo_round_trip_seconds{probe="echo"}'] < 5


def test_its_mistakes_are_told_as_those_of_ours(site: Path, tmp_path: Path) -> None:
    """Unknown keys, missing ones, and a type that is nearly its name."""
    written(tmp_path, "probes:\n  a: {type: ehco}\n  b: {type: echo, hots: x}\n  c: {type: echo, host: x, port: 70000}\n")
    result = run(site, tmp_path, "check", "-c", "config.yaml")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"config.yaml:2:13: probes.a.type: unknown type; one of {', '.join(TYPES)}, echo; did you mean `echo`?",
        "config.yaml:3:3: probes.b.host: is missing: host name or address",
        "config.yaml:3:19: probes.b.hots: unknown key; did you mean `host`?",
        "config.yaml:4:34: probes.c.port: must be at most 65535",
    ]


def test_schema_and_reference_have_it_too(site: Path, tmp_path: Path) -> None:
    """Its authors write nothing for them but descriptions, and an example if they like."""
    schema = run(site, tmp_path, "generate", "schema")
    assert (schema.returncode, schema.stderr) == (0, "")
    assert '"const": "echo"' in schema.stdout
    reference = run(site, tmp_path, "generate", "docs").stdout.partition("## Type `echo`")[2]
    assert "| `port` | `7` | Port (1 to 65535). |" in reference
    assert "port: 7007" in reference


def test_its_driver_is_imported_where_it_runs_alone(site: Path, tmp_path: Path) -> None:
    """Checking a configuration, and a type that is disabled, cost nothing of it."""
    path = written(tmp_path, "probes:\n  echo: {type: echo, host: x}\n")
    code = (
        "import sys; from pathlib import Path; from exporter.config import load\n"
        f"load(Path({str(path)!r}), {{}}); print([m for m in sys.modules if m.startswith('sidecar_echo')])"
    )
    env = {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=env)
    assert result.stdout.strip() == "['sidecar_echo', 'sidecar_echo.settings']"


def test_the_guide_shows_the_packages_own_lines() -> None:
    """What somebody copies is what is tested here."""
    for file, needed in (("pyproject.toml", 'echo = "sidecar_echo:ECHO"'), ("sidecar_echo/__init__.py", "ECHO = ProbeType(")):
        (line,) = (line for line in (EXAMPLE / file).read_text().splitlines() if line.startswith(needed))
        assert line in GUIDE
    assert f'[project.entry-points."{installed.GROUP}"]' in GUIDE


def test_nothing_is_looked_up_for_our_own_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading what is installed costs time at start, and a broken installation must not reach who does not use it."""

    def refuse(**_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(installed, "entry_points", refuse)
    path = written(tmp_path, "probes:\n  db: {type: postgres, url: 'postgresql://127.0.0.1/x'}\n")
    assert load(path, {}).probes["db"].type == "postgres"
    assert installed.probe_of("http") is TYPES["http"].load_probe()


# --- broken packages ----------------------------------------------------------------------------------------------------

SETTINGS = '''
from typing import ClassVar, Literal
from exporter.model import Kind, Metric
from exporter.probes import ProbeType
from exporter.probes.base import Probe, ProbeSettings

class Settings(ProbeSettings):
    """Settings."""
    up: ClassVar[Metric] = Metric("odd_up", Kind.GAUGE, "Up.")
    type: Literal["odd"]

ODD = ProbeType("{module}:Settings", "{module}:Odd")
'''

Installing = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installing]:
    """Puts a package beside the exporter as pip would leave it: a module, and what its metadata say; returns the module's name."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def installing(source: str, *, name: str = "odd", value: str = "ODD", package: str = "odd-probe") -> str:
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(source.replace("{module}", module))
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{installed.GROUP}]\n{name} = {module}:{value}\n")
        return module

    yield installing
    for module in sys.modules.keys() - before:
        if module.endswith("_probe"):
            del sys.modules[module]


def problems(folder: Path, text: str = "probes:\n  odd: {type: odd}\n  db: {type: postgres, ur: x}\n") -> list[str]:
    """What is said of a file with a probe of that type, and a mistake of its own after it, but for that mistake's lines."""
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), {})
    lines = [str(problem) for problem in caught.value.problems]
    told = [line.partition("config.yaml:")[2] for line in lines if ".db" not in line]
    assert len(told) < len(lines), "the other probe's mistakes are told all the same"
    return told


BY = "2:15: probes.odd.type: is brought by odd-probe 1.0, which is broken: "


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import redis_of_nobody", "redis_of_nobody is missing"),
        ("raise RuntimeError('hunter2')", "RuntimeError at odd_probe.py:1"),
        ("import sys; sys.exit(3)", "SystemExit at odd_probe.py:1"),
        ("ODD = (", "SyntaxError at odd_probe.py:1"),
        ("", "odd_probe:ODD is missing"),
        ("ODD = 'odd_probe:Settings'", "odd_probe:ODD is no ProbeType"),
        (SETTINGS.replace('"{module}:Settings"', '"{module}:Nothing"'), "odd_probe:Nothing is missing"),
        (SETTINGS.replace('"{module}:Settings"', '"gone_module:Settings"'), "gone_module is missing"),
        (SETTINGS.replace('"{module}:Settings"', '"{module}:ODD"'), "odd_probe:ODD is no ProbeSettings"),
        (SETTINGS.replace('Literal["odd"]', 'Literal["even"]'), "odd_probe:Settings has no `type: Literal['odd']`"),
        (re.sub(r"    up: .*\n", "", SETTINGS), "odd_probe:Settings has no metric `up`"),
        (f"{SETTINGS}\nSettings.declared = lambda self: 1 / 0", "ZeroDivisionError at odd_probe.py:"),
        (f"{SETTINGS}\nSettings.declared = lambda self: ()", "declared() is no tuple of metrics, `up` among them"),
        (f"{SETTINGS}\nSettings.declared = lambda self: (self.up, self.up)", "declared() names a metric twice"),
        (f"{SETTINGS}\nSettings.declared = lambda self: None", "declared() is no tuple of metrics, `up` among them"),
        (f"{SETTINGS}\nSettings.connections = lambda self: int('hunter2')", "ValueError at odd_probe.py:"),
        (f"{SETTINGS}\nSettings.server = property(lambda self: {{}}['hunter2'])", "KeyError at odd_probe.py:"),
        (f"{SETTINGS}\nSettings.rests_on = lambda self, other: other.hunter2", "AttributeError at main.py:"),
        (
            SETTINGS.replace('"odd_up"', '"sidecar_odd_up"'),
            "sidecar_odd_up: sidecar_ is the prefix of the exporter's own metrics",
        ),
        (SETTINGS.replace('"odd_up"', '"odd up"'), "odd up: not a metric name; it holds letters, digits and `_`, and begins"),
        (SETTINGS.replace('"odd_up"', '"pg_up"'), "pg_up is a metric of type postgres"),
        (
            SETTINGS.replace('"odd_up"', '"pg_up_total"'),
            "pg_up_total is the same as pg_up of type postgres once _total, _bucket, _sum and _count are taken off",
        ),
        (SETTINGS.replace('"Up."', '"Up.", ("job",)'), "odd_up: the label job: `job` is reserved: Prometheus sets it"),
    ],
)
def test_a_broken_package_is_one_problem_at_the_type(install: Installing, tmp_path: Path, source: str, sentence: str) -> None:
    """It names the package, shows nothing of what an exception said, and hides no other mistake in the file."""
    install(source)
    (told,) = problems(tmp_path)
    assert told.startswith(BY + sentence)
    assert "hunter2" not in told


def test_a_validator_that_raises_is_a_broken_package(install: Installing, tmp_path: Path) -> None:
    """Pydantic lets through what is no ValueError."""
    install(
        f"{SETTINGS}\nfrom pydantic import model_validator\nclass Settings(Settings):\n    @model_validator(mode='before')\n"
        "    @classmethod\n    def fail(cls, value): raise KeyError('hunter2')\n"
    )
    (told,) = problems(tmp_path)
    assert told.startswith(f"{BY}KeyError at odd_probe.py:")


def test_two_packages_with_one_type_are_a_problem(install: Installing, tmp_path: Path) -> None:
    """Which of them is meant cannot be known."""
    install(SETTINGS)
    install(SETTINGS, package="other-probe")
    assert problems(tmp_path) == ["2:15: probes.odd.type: is brought by odd-probe 1.0 and other-probe 1.0; uninstall one of them"]


def test_two_packages_may_not_have_one_metric(install: Installing, tmp_path: Path) -> None:
    """A page can have a family once."""
    install(SETTINGS)
    install(SETTINGS.replace('Literal["odd"]', 'Literal["even"]'), name="even", package="other-probe")
    text = "probes:\n  odd: {type: odd}\n  even: {type: even}\n  db: {type: postgres}\n"
    assert problems(tmp_path, text) == [
        "3:16: probes.even.type: is brought by other-probe 1.0, which is broken: odd_up is a metric of type odd"
    ]


def test_a_query_may_not_feed_a_metric_of_an_installed_type(install: Installing, tmp_path: Path) -> None:
    """The same rule as for ours."""
    install(SETTINGS)
    query = "{sql: SELECT 1 AS n, metrics: {odd_up: {type: gauge, help: N., value: n}}}"
    text = f"probes:\n  odd: {{type: odd}}\n  x: {{type: postgres, host: h, queries: {{q: {query}}}}}\n  db: {{type: http}}\n"
    assert problems(tmp_path, text) == ["3:76: probes.x.queries.q.metrics.odd_up: is a built-in metric of type odd"]


def test_a_type_of_ours_wins_and_the_clash_is_said(install: Installing, tmp_path: Path) -> None:
    """A package cannot slip in between an operator and a database; `check` says that it would."""
    install("raise SystemExit", name="postgres")
    line = "type postgres of odd-probe 1.0 is passed over: the built-in one wins"
    assert Catalogue().find("postgres") is TYPES["postgres"]
    assert Catalogue().clashes() == (line,)
    assert every_type()[1] == (line,)
    path = written(tmp_path, "probes:\n  db: {type: postgres, url: 'postgresql://127.0.0.1/x'}\n")
    assert load(path, {}).warnings == ()
    result = run(tmp_path / "site", tmp_path, "check", "-c", "config.yaml")
    assert (result.returncode, result.stdout) == (0, f"warning: {line}\nconfig.yaml: 1 probe, no problems\n")


def test_a_broken_type_is_left_out_of_the_schema_and_said(install: Installing, tmp_path: Path) -> None:
    """The schema of all the others is still one to work with."""
    install("import redis_of_nobody")
    result = run(tmp_path / "site", tmp_path, "generate", "schema")
    assert result.returncode == 0
    assert result.stderr == "type odd is brought by odd-probe 1.0, which is broken: redis_of_nobody is missing\n"
    assert '"const": "postgres"' in result.stdout
    assert '"const": "odd"' not in result.stdout


@pytest.mark.parametrize(
    ("probe", "sentence"),
    [
        ('"{module}:Odd"', "is brought by odd-probe 1.0, which is broken: odd_probe:Odd is missing"),
        ('"driver_of_nobody:Odd"', "is brought by odd-probe 1.0, which is broken: driver_of_nobody is missing"),
        ('"{module}:Settings"', "is brought by odd-probe 1.0, which is broken: odd_probe:Settings is no Probe"),
    ],
)
def test_a_broken_driver_is_a_finding_of_its_probe_alone(install: Installing, tmp_path: Path, probe: str, sentence: str) -> None:
    """Known only where it runs; a line says what is wrong with which package."""
    install(SETTINGS.replace('"{module}:Odd"', probe))
    written(tmp_path, "probes:\n  odd: {type: odd}\n")
    assert run(tmp_path / "site", tmp_path, "check", "-c", "config.yaml").returncode == 0
    result = run(tmp_path / "site", tmp_path, "probe", "odd", "-c", "config.yaml")
    assert result.returncode == 1
    assert f"internal: type odd {sentence}" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
