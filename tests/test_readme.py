"""What the README shows is what happens: its commands run, its blocks are real."""

import os
import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from exporter.demo.servers import Postgres
from tests.running import Running
from tests.servers import eventually_now

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shell_commands() -> list[str]:
    """Every command that a shell block shows, without its comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    return [re.sub(r" +#.*", "", line) for line in lines]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new virtual environment with the package installed by `pip install .`, no extras.

    What it depends on is taken from this environment instead of a package index; that alone differs from a user's.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    packages = sysconfig.get_path("purelib")
    (next((folder / "lib").glob("python*")) / "site-packages" / "dependencies.pth").write_text(packages + "\n")
    source = folder / "source"
    names = ("exporter", "pyproject.toml", "README.md", "LICENSE")
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    command = [str(python), "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", "--no-index", str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    shutil.rmtree(source)
    return folder / "bin"


def run(installed: Path, folder: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command of the installed package, from another folder and with nothing of the checkout in sight."""
    env = {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}", **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=env)


KNOWN = {
    "make demo",
    "make test",
    "pip install .",
    "DATABASE_URL=postgresql://user:password@127.0.0.1:5432/app exporter run",
    "curl localhost:10190/health.txt",
    "exporter check -c config.yaml",
    "exporter run -c config.yaml",
    ".venv/bin/exporter demo break db",
    ".venv/bin/exporter demo heal db",
    ".venv/bin/exporter demo break app --how freeze",
    ".venv/bin/exporter demo heal app",
    "psql -d app -v tables='trades, opportunities' -f deploy/grants/postgres.sql",
    (
        'sed "s/^user/ACL SETUSER/; s/resetpass/#$(printf %s "$SIDECAR_PASSWORD" | sha256sum | cut -c1-64)/"'
        " deploy/grants/redis.acl | redis-cli"
    ),
    "sh deploy/grants/rabbitmq.sh -c -p trading",
    # no engine here: tests/deploy/ runs what these would start
    "cd deploy",
    "docker compose up -d",
}


def test_every_command_of_the_readme_is_run_below_or_in_tests_of_its_part() -> None:
    """A command that nobody runs is one that does not work."""
    assert set(shell_commands()) == KNOWN


@pytest.mark.parametrize("goal", ["demo", "test"])
def test_make_knows_the_two_commands(goal: str) -> None:
    """Both begin with the same set-up; what follows is run by the other tests."""
    planned = subprocess.run(["make", "-n", goal], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert planned.returncode == 0, planned.stderr
    assert ".ci/setup" in planned.stdout
    assert ("exporter demo" if goal == "demo" else "pytest") in planned.stdout


def test_installed_from_another_folder_it_answers_as_the_readme_shows(
    installed: Path, tmp_path: Path, postgres_server: Postgres
) -> None:
    """`pip install .`, DATABASE_URL, curl: the first minute of a new user."""
    with Running(tmp_path, None, {"DATABASE_URL": postgres_server.url}, program=[str(installed / "exporter")]) as exporter:
        eventually_now(lambda: exporter.status("db") == "healthy", 15)
        shown = next(block for block in blocks("text") if block.startswith("healthy"))
        assert _shape(exporter.get("/health.txt")[1]) == _shape(shown)
        page = exporter.get("/", Accept="text/html")[1]
        assert "<html" in page
        asked = run(installed, tmp_path, "exporter", "healthcheck", f"{exporter.url}/livez")
        assert asked.returncode == 0, asked.stdout + asked.stderr


def test_what_is_asked_for_today_is_answered_here(tmp_path: Path) -> None:
    """Each path of the table, with the application's own variables and no file; the ports are those of the Compose file's tests."""
    table = README.partition("## Coming from today's set-up")[2].partition("\n## ")[0]
    answered = re.findall(r"^\|[^|]*on :8000 \|(.*) \|$", table, re.MULTILINE)
    paths = re.findall(r"`(?:GET )?(/[\w/]+)`", "".join(answered))
    assert len(paths) == 7
    urls = {"DATABASE_URL": "postgresql://127.0.0.1:9/x", "REDIS_URL": "redis://127.0.0.1:9", "RABBITMQ_URL": "amqp://127.0.0.1:9/"}
    with Running(tmp_path, None, {**urls, "DB_POOL_SIZE": "20", "DB_MAX_OVERFLOW": "10"}) as exporter:
        for path in paths:
            status, body = exporter.get(path)
            assert status == (200 if "metrics" in path else 503)
            assert ("sidecar_build_info" if "metrics" in path else '"status": "un') in body
        eventually_now(lambda: bool(exporter.samples("sidecar_pool_max_connections")), 5)
        assert exporter.samples('sidecar_pool_max_connections{probe="db"') == {'sidecar_pool_max_connections{probe="db"}': 5.0}


def _shape(text: str) -> list[str]:
    """The text with its times and durations made equal."""
    text = re.sub(r"\d\d:\d\d:\d\dZ", "TIME", text)
    return re.sub(r"\b[0-9.]+(ms|s|m)\b", "SPAN", text).splitlines()


def test_the_error_it_shows_is_the_error_it_gives(installed: Path, tmp_path: Path) -> None:
    """Word for word, place and hint included."""
    (tmp_path / "config.yaml").write_text("probes:\n  db: {type: postgres, url: 'postgresql://127.0.0.1/x',\n    timout: 3s}\n")
    result = run(installed, tmp_path, "exporter", "check", "-c", "config.yaml")
    assert result.returncode == 2
    shown = next(block for block in blocks("text") if block.startswith("config.yaml:"))
    assert (result.stdout + result.stderr).strip() == shown.strip()


def test_the_example_checks_clean_and_runs(installed: Path, tmp_path: Path) -> None:
    """With only the application's own three variables set; no probe of it leaves the machine."""
    shutil.copy(ROOT / "config.example.yaml", tmp_path / "config.yaml")
    urls = {
        "DATABASE_URL": "postgresql://app@127.0.0.1:1/app",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/",
    }
    result = run(installed, tmp_path, "exporter", "check", "-c", "config.yaml", **urls)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("no problems\n")
    text = (tmp_path / "config.yaml").read_text()
    with Running(tmp_path, text, urls, program=[str(installed / "exporter")]) as exporter:
        assert exporter.get("/livez")[0] == 200
        assert "binance" in exporter.get("/health.txt")[1]


def test_the_scrape_job_is_one_prometheus_takes(tmp_path: Path) -> None:
    """Four lines, to be pasted as they stand."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing; as root: apt-get install -y --no-install-recommends prometheus"
    (job,) = (block for block in blocks("yaml") if block.startswith("scrape_configs:"))
    assert len(job.splitlines()) == 4
    (tmp_path / "prometheus.yml").write_text(job)
    result = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_both_names_of_the_program_are_the_same(installed: Path, tmp_path: Path) -> None:
    """`exporter` is short, `sidecar-exporter` is what the package is called."""
    answers = [run(installed, tmp_path, name, "--version").stdout for name in ("exporter", "sidecar-exporter")]
    assert answers[0] == answers[1]
    assert answers[0].startswith("exporter, version ")
