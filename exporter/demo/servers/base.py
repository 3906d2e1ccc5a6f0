"""What every server of the demo and the tests is started by: users, ports, folders, the guard. Knows no server.

Every server is a `Server`: a folder of its own (0700), a port that stays reserved while the server is down, a process
under `guard.py`, and an unprivileged user when we are root.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from exporter.demo import guard
from exporter.errors import ExporterError

HOST = "127.0.0.1"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READY_SECONDS = 20.0
STOP_SECONDS = 5.0
REMOVED_SECONDS = 3.0


class MissingServer(ExporterError):
    """A server's program is nowhere to be found; the message is the line that would bring it."""


class ServerFailed(ExporterError):
    """A server did not start, or not in time; the message ends with the last line of its log."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user a server runs as; `uid` and `gid` are None when it is simply ours."""

    name: str
    uid: int | None = None
    gid: int | None = None

    def own(self, *paths: Path) -> None:
        if self.uid is not None and self.gid is not None:
            for path in paths:
                os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Whether everybody, and so this user, may go down to `path`; what is ours alone counts when it is us."""
        return self.uid is None or all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def unprivileged() -> Account:
    """Ourselves, unless we are root: then `postgres` where it exists, else `nobody`. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return Account(pwd.getpwuid(os.geteuid()).pw_name)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise MissingServer("running as root, and neither a user postgres nor nobody exists to run servers as")


def reserve_port(port: int = 0) -> socket.socket:
    """A loopback port, by default any free one, kept from all but a server that listens with SO_REUSEADDR, as ours do.

    A bound socket that does not listen refuses connections like a closed port, and the kernel gives its port neither to
    bind(0) nor to an outgoing connection (Linux, inet_csk_find_open_port): a server can come back on the port it had.

    Raises:
        ServerFailed: somebody else listens on that port.
    """
    reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind((HOST, port))
    except OSError as error:
        reserved.close()
        raise ServerFailed(f"port {port} of {HOST}: {error.strerror}") from error
    return reserved


def _private_folder(prefix: str, account: Account) -> Path:
    """A new folder of that user alone; in /tmp where the user cannot reach our own TMPDIR."""
    usual = Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=usual if account.reaches(usual) else "/tmp"))  # noqa: S108  # made 0700
    account.own(folder)
    return folder


class Program(ABC):
    """One process with all that comes of it; mutable: started, frozen, killed and started again.

    `log` is the file its output goes to; `litter` are folders of others that go with its own, should the owner die.
    A subclass says what to run (`command`) and when it is ready (`is_ready`).
    """

    name: str = "program"
    ending: signal.Signals = signal.SIGTERM
    needs_shutdown: bool = False
    """Whether killing it leaves something outside its folder, so that `close` must ask it to end."""

    def __init__(self, account: Account | None = None) -> None:
        self.account = account or Account("")
        self.folder = _private_folder(f"sidecar-{self.name}-", self.account)
        self.log = self.folder / "log"
        self.litter: tuple[Path, ...] = ()
        self._log_before = 0
        self._guard: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program, absolute, and its arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it can be used; asked every few milliseconds, must not wait."""

    def environment(self) -> dict[str, str]:
        """What the process sees of ours: nothing but the folders where programs are."""
        return {"PATH": PATH, "HOME": str(self.folder), "LANG": "C.UTF-8", "TZ": "UTC"}

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the server and all that came of it, the server's first."""
        return tuple(guard.descendants(self._guard.pid)) if self._guard is not None and self.running else ()

    def start(self, within: float = READY_SECONDS) -> None:
        """Starts it and waits until it is ready.

        Raises:
            ServerFailed: it ended, or was not ready within so many seconds; it is stopped then.
        """
        self.launch()
        self.ready(within)

    def launch(self) -> None:
        """Starts it without waiting; it must not run already."""
        if self.running:
            raise ServerFailed(f"{self.name} is already running")
        plan = guard.Plan(
            command=self.command(),
            user=self.account.uid,
            group=self.account.gid,
            ending=self.ending,
            folders=[str(self.folder), *map(str, self.litter)],
        )
        with self.log.open("ab") as log:
            self._log_before = log.tell()
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, json.dumps(plan)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
            )

    def ready(self, within: float = READY_SECONDS) -> None:
        """Waits until it can be used; raises ServerFailed as `start` does."""
        if not _eventually(lambda: not self.running or self.is_ready(), within) or not self.running:
            self.stop()
            raise ServerFailed(f"{self.name} was not ready within {within:g}s: {self.last_words()}")

    def stop(self, within: float = STOP_SECONDS) -> None:
        """Asks it to end, kills what is left after so many seconds, and waits until nothing is."""
        if self._guard is None or self._guard.stdin is None:
            return
        try:
            self._guard.stdin.write(str(within).encode())
            self._guard.stdin.close()
        except BrokenPipeError:  # it had ended by itself
            pass
        self._guard.wait()
        self._guard = None

    def kill(self) -> None:
        """SIGKILL for the server and all that came of it, as a crash of the machine would do."""
        self._signal(signal.SIGKILL)
        self.stop()

    def freeze(self) -> None:
        """SIGSTOP for the server and all that came of it: connections stay open, nothing answers.

        The server comes first, so that it starts no more children while they are stopped one by one.
        """
        self._signal(signal.SIGSTOP)
        while self._guard is not None and set(guard.descendants(self._guard.pid).values()) - {"T"}:
            self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT for all that `freeze` stopped."""
        self._signal(signal.SIGCONT)

    def restart(self, within: float = READY_SECONDS) -> None:
        """Stops it if it runs, and starts it anew with the same data."""
        self.stop()
        self.start(within)

    def close(self) -> None:
        """Ends it and removes its folder, with all it kept there."""
        if not self.needs_shutdown:
            self._signal(signal.SIGKILL)
        self.stop()
        # what `initdb` had begun when a signal interrupted it may go on writing for a moment
        _eventually(self._removed, REMOVED_SECONDS)

    def _removed(self) -> bool:
        shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def write(self, path: Path, content: bytes) -> Path:
        """Writes a file that its user alone can read, anew, and returns its path."""
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(content)
        self.account.own(path)
        return path

    def said(self, what: str) -> bool:
        """Whether its log has these words since it was last launched."""
        with self.log.open("rb") as log:
            log.seek(self._log_before)
            return what.encode() in log.read()

    def _signal(self, number: signal.Signals) -> None:
        if self._guard is not None:
            guard.signal_all(self._guard.pid, number)

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"


def _eventually(condition: Callable[[], bool], within: float) -> bool:
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


class Server(Program):
    """A program that listens on one port of loopback, which stays reserved while it is down: it comes back where it was."""

    name = "server"

    def __init__(self, account: Account | None = None, port: int = 0) -> None:
        self._reserved = [reserve_port(port)]
        super().__init__(account)
        self.port = port_of(self._reserved[0])

    def another_port(self) -> int:
        """One more port, reserved as long as the first."""
        self._reserved.append(reserve_port())
        return port_of(self._reserved[-1])

    def close(self) -> None:
        """Ends it and removes its folder and the reservation of its ports."""
        super().close()
        for reserved in self._reserved:
            reserved.close()


def port_of(bound: socket.socket) -> int:
    """The port that a socket is bound to."""
    port: int = bound.getsockname()[1]
    return port


def is_listening(port: int) -> bool:
    """Whether a connection to the loopback port is accepted; a frozen server accepts too, by its kernel."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((HOST, port)) == 0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server certificate with its chain, and its key, both PEM."""

    chain: bytes
    key: bytes


def readable_by(account: Account, programs: Path, folder: Path) -> Path:
    """`programs`, or a copy of their installation inside `folder` where that user cannot reach them, as with root's own wheels."""
    if account.reaches(programs):
        return programs
    package = programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # beside it, where auditwheel puts what the programs link to
    copy = folder / "programs"
    for part in filter(Path.exists, (programs.parent, libraries)):
        shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
    account.own(copy, *copy.rglob("*"))
    return copy / programs.relative_to(package.parent)
