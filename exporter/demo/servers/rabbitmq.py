"""RabbitMQ as the demo and the tests start it: a node of its own beside any other, by RabbitMQ's own script.

Debian's wrapper of that script refuses all users but root and rabbitmq. The script runs as any user whose HOME holds the
Erlang cookie, and is told by variables where everything is (RabbitMQ 3.10, sbin/rabbitmq-env and rabbit_env.erl). An Erlang
node starts a name server, epmd, which outlives it: ours has a port of its own and ends with its node, under the same guard.
"""

import base64
import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from exporter.demo.servers.base import HOST, Certificate, MissingServer, Server, ServerFailed, is_listening, unprivileged

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Where Debian puts RabbitMQ's own scripts, outside PATH; those inside are its wrapper."""
READY_SECONDS = 60.0
CONTROL_SECONDS = 30.0


def find_rabbitmq() -> Path:
    """The folder with RabbitMQ's own scripts: of Debian, else of PATH.

    Raises:
        MissingServer: there is none, or no Erlang to run it.
    """
    found = shutil.which("rabbitmq-server")
    folders = (SCRIPTS, *([Path(found).resolve().parent] if found else []))
    for folder in folders:
        if os.access(folder / "rabbitmq-env", os.R_OK) and os.access(folder / "rabbitmq-server", os.X_OK) and shutil.which("erl"):
            return folder
    raise MissingServer("rabbitmq-server is missing: as root `apt-get install -y --no-install-recommends rabbitmq-server`")


@dataclass(frozen=True, slots=True)
class User:
    """A user of the broker with rights on one virtual host: three regular expressions of resource names."""

    name: str
    password: str
    configure: str = ".*"
    write: str = ".*"
    read: str = ".*"
    vhost: str | None = "/"
    """None: no right on any, so that the broker refuses it every one."""
    tags: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue; `arguments` as of queue.declare."""

    name: str
    vhost: str = "/"
    arguments: Mapping[str, str | int | bool] | None = None


class RabbitMQ(Server):
    """A RabbitMQ node with an administrator, `demo`, who needs `password`; the guest of a fresh installation is not there.

    `users`, `vhosts` (besides `/`) and `queues` are there from its first start on; `define` adds others while it runs.
    `settings` are further lines of rabbitmq.conf, as `{"vm_memory_high_watermark.relative": "0.4"}`; `plugins` are enabled.
    With a `certificate` it speaks TLS on `tls_port` too.
    Users, durable queues and their persistent messages outlive `restart`.
    """

    name = "rabbitmq"

    def __init__(
        self,
        *,
        users: Sequence[User] = (),
        vhosts: Sequence[str] = (),
        queues: Sequence[Queue] = (),
        settings: Mapping[str, str] | None = None,
        plugins: Sequence[str] = (),
        certificate: Certificate | None = None,
    ) -> None:
        self._scripts = find_rabbitmq()
        super().__init__(unprivileged())
        self.user = "demo"
        self.password = secrets.token_urlsafe(12)
        self.node = f"demo-{self.port}@localhost"
        self.tls_port = 0 if certificate is None else self.another_port()
        self.epmd_port = self.another_port()
        self._node_port = self.another_port()
        everybody = (User(self.user, self.password, tags="administrator"), *users)
        definitions = _definitions(everybody, ("/", *vhosts), queues)
        self.write(self.folder / "definitions.json", json.dumps(definitions).encode())
        self.write(self.folder / "enabled_plugins", f"[{','.join(plugins)}].\n".encode())
        self.write(self.folder / "rabbitmq.conf", "\n".join((*self._lines(certificate, settings or {}), "")).encode())
        self.write(self.folder / ".erlang.cookie", secrets.token_hex(16).encode()).chmod(0o400)

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, vhost: str = "/", *, user: str | None = None, password: str | None = None, tls: bool = False) -> str:
        """The URL of one virtual host, by default as the administrator; with `tls` on the port that speaks it."""
        scheme, port = ("amqps", self.tls_port) if tls else ("amqp", self.port)
        who = quote(self.user if user is None else user, safe="")
        word = quote(self.password if password is None else password, safe="")
        return f"{scheme}://{who}:{word}@{HOST}:{port}/{quote(vhost, safe='')}"

    def command(self) -> list[str]:
        return [str(self._scripts / "rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        """Nothing of /etc/rabbitmq is read, nothing of /var is written, and nothing listens beyond loopback."""
        loopback = "{127,0,0,1}"
        return super().environment() | {
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {loopback}",
            "RABBITMQ_CTL_ERL_ARGS": f"-kernel inet_dist_use_interface {loopback}",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node, instead of staying between it and our signals
        }

    def start(self, within: float = READY_SECONDS) -> None:
        super().start(within)

    def restart(self, within: float = READY_SECONDS) -> None:
        super().restart(within)

    def is_ready(self) -> bool:
        """The listeners are opened last, when all users and queues are there (3.10, rabbit:do_run_postlaunch_phase/1)."""
        return all(is_listening(port) for port in (self.port, self.tls_port) if port)

    def define(self, *, users: Sequence[User] = (), vhosts: Sequence[str] = (), queues: Sequence[Queue] = ()) -> None:
        """Adds what a running node shall have besides, or changes what it has under these names; takes half a second."""
        more = self.write(self.folder / "more.json", json.dumps(_definitions(users, vhosts, queues)).encode())
        self.control("import_definitions", str(more))

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` says to these arguments, as `set_vm_memory_high_watermark 0`; takes half a second.

        Raises:
            ServerFailed: it exited with an error; with the last line of what it said.
        """
        ended = subprocess.run(
            [str(self._scripts / "rabbitmqctl"), "--quiet", *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment(),
            user=self.account.uid,
            group=self.account.gid,
            extra_groups=None if self.account.uid is None else [],
            timeout=CONTROL_SECONDS,
            check=False,
        )
        if ended.returncode != 0:
            said = (ended.stderr or ended.stdout).strip().splitlines()
            raise ServerFailed(f"rabbitmqctl {arguments[0]} exited {ended.returncode}: {said[-1] if said else 'it said nothing'}")
        return ended.stdout

    def _lines(self, certificate: Certificate | None, settings: Mapping[str, str]) -> Iterator[str]:
        yield f"listeners.tcp.1 = {HOST}:{self.port}"
        yield f"load_definitions = {self.folder / 'definitions.json'}"
        yield from (f"{name} = {value}" for name, value in {**_SETTINGS, **settings}.items())
        if certificate is not None:
            yield f"listeners.ssl.1 = {HOST}:{self.tls_port}"
            yield f"ssl_options.certfile = {self.write(self.folder / 'server.crt', certificate.chain)}"
            yield f"ssl_options.keyfile = {self.write(self.folder / 'server.key', certificate.key)}"
            yield "ssl_options.verify = verify_none"


_SETTINGS = {
    "log.console": "true",
    "log.file": "false",
    "disk_free_limit.absolute": "50MB",
}


def _definitions(users: Sequence[User], vhosts: Sequence[str], queues: Sequence[Queue]) -> dict[str, object]:
    """What `rabbitmqctl export_definitions` would write (rabbitmq.com, "Schema Definition Export and Import")."""
    return {
        "vhosts": [{"name": vhost} for vhost in vhosts],
        "users": [{"name": user.name, "password_hash": _hash(user.password), "tags": user.tags} for user in users],
        "permissions": [
            {"user": user.name, "vhost": user.vhost, "configure": user.configure, "write": user.write, "read": user.read}
            for user in users
            if user.vhost is not None
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": queue.vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments or {}),
            }
            for queue in queues
        ],
    }


def _hash(password: str) -> str:
    """Four bytes of salt, and the SHA-256 of them and the password (rabbitmq.com, "Credentials and Passwords")."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
