"""The systemd unit: keys that systemd knows, the restrictions it promises, and its command line run. systemd is not asked."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exporter.app.serving import CLOSE_SECONDS
from exporter.cli import BAD_USAGE
from exporter.demo.servers.base import Account
from exporter.demo.servers.python import ROOT, who_can_read_us
from tests.servers import closed_port, eventually_now

FOLDER = ROOT / "deploy/systemd"

RESTRICTIONS = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
}
"""Every one of them is a key of systemd.exec(5) or systemd.resource-control(5); a slip would be passed over by systemd."""

OTHERS = {
    "Unit": {"Description", "Documentation", "Wants", "After"},
    "Service": {
        *("Type", "ExecStart", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus"),  # systemd.service(5)
        "TimeoutStopSec",
        *("DynamicUser", "User", "RuntimeDirectory", "RuntimeDirectoryMode", "WorkingDirectory", "UMask"),  # systemd.exec(5)
        *("Environment", "EnvironmentFile", "LoadCredential", "OOMScoreAdjust", "SystemCallFilter"),
        "MemoryMax",  # systemd.resource-control(5)
    },
    "Install": {"WantedBy"},
}
REPEATED = {"Environment", "LoadCredential", "SystemCallFilter"}
"""Keys whose lines add up (systemd.exec(5)); of others the last line wins."""

Sections = dict[str, dict[str, list[str]]]


def parsed(name: str) -> Sections:
    """A unit file as systemd.syntax(7) reads it, every value of a key in order. Ours continue no line."""
    sections: Sections = {}
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            section.setdefault(key, []).append(value)
    return sections


UNIT = parsed("sidecar-exporter.service")
SERVICE = UNIT["Service"]
CREDENTIALS = parsed("credentials.conf")["Service"]


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


# -- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sidecar-exporter.service", "credentials.conf"])
def test_every_key_is_known_and_written_once(name: str) -> None:
    """systemd passes over a key it does not know, with a line in its log that nobody reads."""
    for section, keys in parsed(name).items():
        assert set(keys) <= OTHERS[section] | (RESTRICTIONS.keys() if section == "Service" else set())
        assert {key for key, values in keys.items() if len(values) > 1} <= REPEATED


def test_it_is_as_restricted_as_it_says() -> None:
    """It holds the passwords of every backend: whoever gets into it must get no further."""
    assert {key: SERVICE[key] for key in RESTRICTIONS} == {key: [value] for key, value in RESTRICTIONS.items()}
    assert SERVICE["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert SERVICE["MemoryMax"] == ["192M"]


def test_its_user_is_private_and_has_a_home() -> None:
    """asyncpg looks for key files under HOME, and fails where it may not look (asyncpg#910)."""
    assert (SERVICE["DynamicUser"], SERVICE["User"]) == (["yes"], ["sidecar-exporter"])
    folder = f"%t/{SERVICE['RuntimeDirectory'][0]}"
    assert f"HOME={folder}" in shlex.split(SERVICE["Environment"][0])
    assert (SERVICE["WorkingDirectory"], SERVICE["RuntimeDirectoryMode"]) == ([folder], ["0700"])


def test_it_is_started_again_unless_its_configuration_is_bad() -> None:
    """A file that is wrong stays wrong, and its message would be buried under restarts."""
    assert SERVICE["Restart"] == ["on-failure"]
    assert SERVICE["RestartPreventExitStatus"] == [str(BAD_USAGE)]
    assert seconds(SERVICE["RestartSec"][0]) >= 2  # five starts within 10 s are the limit (systemd.unit(5), StartLimitBurst)


def test_it_starts_with_the_machine_and_yields_to_the_database() -> None:
    """Before a network there is nothing to probe; short of memory, the kernel takes what has the higher score."""
    assert (SERVICE["Type"], UNIT["Install"]["WantedBy"]) == (["exec"], ["multi-user.target"])
    assert UNIT["Unit"]["After"] == UNIT["Unit"]["Wants"] == ["network-online.target"]
    assert int(SERVICE["OOMScoreAdjust"][0]) > 0


def test_an_end_has_the_time_it_needs() -> None:
    """web.drain is 0s unless the configuration says more; then connections are closed."""
    assert seconds(SERVICE["TimeoutStopSec"][0]) >= 2 * CLOSE_SECONDS


def test_every_credential_is_read_as_a_file() -> None:
    """Two lines for each, of one name; and none of the variables may hold the secret itself."""
    loaded = [line.partition(":") for line in CREDENTIALS["LoadCredential"]]
    assert [path for _, _, path in loaded] == [f"/etc/sidecar-exporter/credentials/{name}" for name, _, _ in loaded]
    assert CREDENTIALS["Environment"] == [f"{name.upper()}_FILE=%d/{name}" for name, _, _ in loaded]
    assert {name.upper() for name, _, _ in loaded} == {"DATABASE_URL", "REDIS_URL", "RABBITMQ_URL"}


# -- and does --------------------------------------------------------------------------------------------------------

CONFIGURATION = """\
probes:
  db: {type: postgres, url: "${DATABASE_URL}"}
  redis: {type: redis, url: "${REDIS_URL}"}
  rabbitmq: {type: rabbitmq, url: "${RABBITMQ_URL}"}
"""


@dataclass
class Machine:
    """A folder that stands for the machine's own, and the unprivileged user that the service runs as, where root runs this."""

    root: Path
    account: Account
    variables: dict[str, str] = field(default_factory=dict)

    def write(self, path: str, text: str) -> None:
        """As root would: nobody else may read it, but for what lies below `/run`, which is the service's."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o644 if path == "etc/sidecar-exporter/config.yaml" else 0o400)
        if path.startswith("run/"):
            self.account.own(file)

    def here(self, text: str) -> str:
        """The text with the folders of the unit in this one (systemd.unit(5), Specifiers)."""
        text = text.replace("%t", f"{self.root}/run").replace("%d", f"{self.root}/run/credentials")
        return text.replace("/etc/sidecar-exporter", f"{self.root}/etc/sidecar-exporter")

    def command(self) -> list[str]:
        """ExecStart, by this checkout instead of the virtual environment."""
        program, *arguments = shlex.split(self.here(SERVICE["ExecStart"][0]))
        assert program == "/opt/sidecar-exporter/bin/exporter"
        return [sys.executable, "-m", "exporter", *arguments]

    def environment(self) -> dict[str, str]:
        """What the unit sets, what its EnvironmentFile holds, and where this checkout is; the port is any free one."""
        lines = [word for value in SERVICE["Environment"] for word in shlex.split(self.here(value))]
        file = Path(self.here(SERVICE["EnvironmentFile"][0]).removeprefix("-"))
        lines += file.read_text().splitlines() if file.exists() else []
        ours = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "EXPORTER_LISTEN": "127.0.0.1:0"}
        return {**ours, **dict(line.split("=", 1) for line in lines), **self.variables}

    def start(self) -> "subprocess.Popen[bytes]":
        """The service, as its user, in its folder; what it says goes to `log`."""
        with (self.root / "log").open("wb") as log:
            return subprocess.Popen(
                self.command(),
                env=self.environment(),
                cwd=self.here(SERVICE["WorkingDirectory"][0]),
                stdout=log,
                stderr=log,
                user=self.account.uid,
                group=self.account.gid,
                extra_groups=None if self.account.uid is None else [],
                umask=int(SERVICE["UMask"][0], 8),
            )

    @property
    def said(self) -> str:
        return (self.root / "log").read_text()

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        """The service once it listens; killed at the end, unless it has ended."""
        with self.start() as process:
            try:
                eventually_now(lambda: "listening on " in self.said or process.poll() is not None, 15)
                assert process.poll() is None, self.said
                yield process
            finally:
                process.kill()

    def get(self, path: str) -> str:
        url = self.said.partition("listening on ")[2].partition("\n")[0]
        with urllib.request.urlopen(url + path, timeout=5) as response:
            text: str = response.read().decode()
        return text


@pytest.fixture
def machine() -> Iterator[Machine]:
    """With the folders that systemd makes. Not in pytest's own folder, where only its own user may go."""
    root, account = Path(tempfile.mkdtemp(prefix="sidecar-unit-")), who_can_read_us()
    root.chmod(0o755)
    home = root / "run" / SERVICE["RuntimeDirectory"][0]
    home.mkdir(parents=True, mode=int(SERVICE["RuntimeDirectoryMode"][0], 8))
    account.own(home)
    yield Machine(root, account)
    shutil.rmtree(root)


@pytest.fixture
def urls() -> Iterator[dict[str, str]]:
    """Nobody is behind any of them."""
    with closed_port() as port:
        yield {
            "DATABASE_URL": f"postgresql://app:c4nary@127.0.0.1:{port}/app",
            "REDIS_URL": f"redis://:c4nary@127.0.0.1:{port}/0",
            "RABBITMQ_URL": f"amqp://app:c4nary@127.0.0.1:{port}/",
        }


def test_its_command_line_runs_as_an_unprivileged_user(machine: Machine, urls: dict[str, str]) -> None:
    """With what the unit and its EnvironmentFile set and nothing else: it serves, probes, reloads and ends well."""
    machine.write("etc/sidecar-exporter/config.yaml", CONFIGURATION)
    machine.write("etc/sidecar-exporter/environment", "".join(f"{name}={url}\n" for name, url in urls.items()))
    with machine.running() as process:
        assert [machine.get(path) for path in ("/livez", "/readyz", "/startupz")] == ["ok"] * 3
        eventually_now(lambda: machine.get("/metrics").count("sidecar_probe_up{") == 3, 15)
        # refused, and not `config`: it may look into its home
        assert machine.get("/metrics").count('reason="refused"') == 3
        assert SERVICE["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
        process.send_signal(signal.SIGHUP)
        eventually_now(lambda: "configuration reloaded: 3 as before" in machine.said, 5)
        process.terminate()
        assert process.wait(seconds(SERVICE["TimeoutStopSec"][0])) == 0
    assert list((machine.root / "run/sidecar-exporter").iterdir()) == []  # it writes nothing


def test_credentials_take_the_place_of_the_environment_file(machine: Machine, urls: dict[str, str]) -> None:
    """The same configuration, with no secret in the environment."""
    machine.write("etc/sidecar-exporter/config.yaml", CONFIGURATION)
    for name, url in urls.items():
        machine.write(f"run/credentials/{name.lower()}", f"{url}\n")
    machine.variables = dict(machine.here(line).split("=", 1) for line in CREDENTIALS["Environment"])
    with machine.running() as process:
        eventually_now(lambda: machine.get("/metrics").count('reason="refused"') == 3, 15)
        assert "c4nary" not in Path(f"/proc/{process.pid}/environ").read_text()
    assert "c4nary" not in machine.said


def test_a_bad_configuration_ends_with_the_status_that_is_not_restarted(machine: Machine) -> None:
    """And with the one line that says why."""
    machine.write("etc/sidecar-exporter/config.yaml", "probs: {}\n")
    with machine.start() as process:
        assert process.wait(20) == int(SERVICE["RestartPreventExitStatus"][0])
    assert "probs: unknown key; did you mean `probes`?" in machine.said
