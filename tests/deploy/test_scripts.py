"""Our shell scripts: clean by shellcheck, and the image script reads the Dockerfile as it is. No image is made here."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.servers import eventually_now, still_running

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/image.sh"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
TOOLS = ("awk", "bash", "cut", "dirname", "env", "mktemp", "rm", "sed")


def _scripts() -> list[Path]:
    files = [path for folder in ("deploy", ".ci") for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in files if re.match(rb"#!.*\b(ba)?sh\b", path.read_bytes()[:80])]


def test_every_script_is_clean() -> None:
    """By the tool that `make lint` runs, on every script there is, however it is named."""
    shellcheck = shutil.which("shellcheck")
    assert shellcheck, "shellcheck is missing; as root: apt-get install -y --no-install-recommends shellcheck"
    assert {SCRIPT, ROOT / ".ci/setup", ROOT / ".ci/run"} <= set(_scripts())
    result = subprocess.run([shellcheck, *_scripts()], capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stdout


def _project(folder: Path, dockerfile: str) -> Path:
    """The script in a project of its own."""
    (folder / "deploy").mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    return Path(shutil.copy2(SCRIPT, folder / "deploy"))


def _run(script: Path, *arguments: str, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": str(path)} if path else None
    return subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, timeout=30)


def test_the_image_script_knows_every_step_of_the_dockerfile() -> None:
    """Read here in another way: what follows the comments, with its continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n *", "", "\n".join(lines))
    result = _run(SCRIPT, "--steps")
    assert (result.returncode, result.stderr) == (0, "")
    shown = [line.split(" ", 1) for line in result.stdout.splitlines()]
    assert [step for _, step in shown] == [line for line in joined.splitlines() if line]
    # each line number is that of the step's first words
    numbered = dict(enumerate(DOCKERFILE.splitlines(), 1))
    assert all(step.startswith(numbered[int(line)].rstrip("\\ ")) for line, step in shown)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("VOLUME /data", "VOLUME is not known to deploy/image.sh"),
        ("RUN --mount=type=cache,target=/x true", "options of RUN are not known to deploy/image.sh"),
        ("COPY --chown=1:1 exporter /x", "options of COPY are not known to deploy/image.sh"),
        ("RUN <<EOF", "here-documents are not known to deploy/image.sh"),
        ("RUN true\nARG VERSION", "ARG after FROM is not known to deploy/image.sh"),
        ("USER 1:1\nRUN true", "RUN after USER or WORKDIR is not known to deploy/image.sh: it runs as root, in /"),
        ("ENV HOME /home/exporter", "ENV wants NAME=value"),
        ("HEALTHCHECK NONE", "HEALTHCHECK wants CMD and the form with brackets"),
        ("CMD exporter run", "CMD wants the form with brackets: no shell may stand before us"),
    ],
)
def test_a_step_it_would_not_do_as_docker_does_is_refused(tmp_path: Path, line: str, said: str) -> None:
    """It would measure another image than the one that is built."""
    result = _run(_project(tmp_path, f"# an image\nFROM python:3.13-slim\n\n{line}\n"), "--steps")
    refused = 4 + line.count("\n")
    assert (result.returncode, result.stderr) == (2, f"image: Dockerfile:{refused}: {said}\n")


@pytest.mark.parametrize("arguments", [("--help",), ("steps",), ("--steps", "more")])
def test_anything_else_is_answered_with_the_usage(arguments: tuple[str, ...]) -> None:
    """One line, exit 2, nothing begun."""
    result = _run(SCRIPT, *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "image: usage: deploy/image.sh [--steps]\n")


def _machine(folder: Path, *, uid: int, programs: tuple[str, ...] = ()) -> Path:
    """A PATH with the common tools, an `id` of its own, and `programs` that do nothing."""
    for tool in TOOLS:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    for name, text in {"id": f"echo {uid}", **dict.fromkeys(programs, "exit 0")}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def test_who_may_not_make_it_is_told(tmp_path: Path) -> None:
    """Mounting and chroot are root's."""
    result = _run(SCRIPT, path=_machine(tmp_path, uid=1000))
    assert (result.returncode, result.stderr) == (2, "image: only root can make a root folder and mount it; run it as root\n")


def test_what_is_missing_is_told_with_the_line_that_brings_it(tmp_path: Path) -> None:
    """debootstrap is on no machine by itself."""
    result = _run(SCRIPT, path=_machine(tmp_path, uid=0))
    line = "apt-get update && apt-get install -y --no-install-recommends debootstrap util-linux mawk"
    assert (result.returncode, result.stderr) == (2, f"image: debootstrap is missing; as root: {line}\n")


@pytest.mark.parametrize("programs", [("apt-get",), ()], ids=["apt-knows-none", "no-apt"])
def test_without_a_mirror_it_asks_for_one(tmp_path: Path, programs: tuple[str, ...]) -> None:
    """It knows none by itself: where Debian comes from is the machine's affair."""
    needed = ("debootstrap", "unshare", "chroot", "timeout")
    result = _run(SCRIPT, path=_machine(tmp_path, uid=0, programs=(*needed, *programs)))
    said = "image: no Debian mirror in this machine's apt sources; set MIRROR to the URL of one\n"
    assert (result.returncode, result.stderr) == (2, said)
    assert not re.search("https?://", SCRIPT.read_text())


def _stand_in(folder: Path, timeout: str) -> dict[str, str]:
    """The environment of a machine whose `timeout` does that instead of running the rest; TMPDIR is `folder/tmp`."""
    (folder / "bin").mkdir()
    (folder / "tmp").mkdir()
    path = _machine(folder / "bin", uid=0, programs=("debootstrap", "unshare", "chroot", "timeout"))
    (path / "timeout").write_text(f"#!/bin/sh\n{timeout}\n")
    (path / "sleep").symlink_to(str(shutil.which("sleep")))
    return {"PATH": str(path), "TMPDIR": str(folder / "tmp"), "MIRROR": "file:///nowhere"}


def test_it_leaves_no_folder_when_its_time_is_up(tmp_path: Path) -> None:
    """A Debian of 300 MB in /tmp for every failed try would be a nuisance."""
    environment = _stand_in(tmp_path, 'echo "$TMPDIR"/*; exit 124')
    result = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (124, "image: not done within 900 s\n")
    assert "exporter-image." in result.stdout  # there was one
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_leaves_no_folder_and_no_process_when_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    """At once, and not when the step it is at has ended."""
    environment = _stand_in(tmp_path, 'echo $$ >"$TMPDIR/../pid"; exec sleep 50')
    # what runs the tests may have set them to be ignored (nohup does), and bash takes that over
    with subprocess.Popen([str(shutil.which("env")), "--default-signal=HUP,TERM", str(SCRIPT)], env=environment) as process:
        pid = int(eventually_now(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 10))
        process.send_signal(number)
        assert process.wait(10) == 130
    assert still_running([pid]) == []
    assert list((tmp_path / "tmp").iterdir()) == []
