"""RabbitMQ as the demo and the tests start it: each option does what it says, and nothing is left, epmd neither."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import pytest
import trustme
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPException, ProbableAuthenticationError

from exporter.demo.servers import Certificate, MissingServer, Queue, RabbitMQ, ServerFailed, User, find_rabbitmq
from exporter.demo.servers import rabbitmq as rabbitmq_module
from tests.servers import eventually, eventually_now, is_listening, still_running

ROOT = Path(__file__).parents[2]

Starting = Callable[..., Awaitable[RabbitMQ]]


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[AbstractConnection]:
    connection = await aio_pika.connect(url, timeout=5)
    try:
        yield connection
    finally:
        await connection.close()


async def _ready_in(url: str, queue: str) -> int | None:
    async with _connected(url) as connection, connection.channel() as channel:
        return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count


async def _publish(url: str, queue: str) -> None:
    async with _connected(url) as connection, connection.channel() as channel:
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=queue)


async def test_only_its_own_administrator_is_let_in(rabbitmq_server: RabbitMQ) -> None:
    """Whoever else is on the machine can reach the port, and knows the guest of every fresh installation."""
    async with _connected(rabbitmq_server.url):
        pass
    for refused in (rabbitmq_server.url_of(password="wrong"), rabbitmq_server.url_of(user="guest", password="guest")):
        with pytest.raises(ProbableAuthenticationError):
            await aio_pika.connect(refused, timeout=5)


def test_rabbitmq_is_private_and_unprivileged(rabbitmq_server: RabbitMQ) -> None:
    """All of it runs as an ordinary user, and all it listens on is loopback."""
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in rabbitmq_server.processes}
    assert {"beam.smp", "epmd"} <= set(names.values())
    assert names[rabbitmq_server.processes[0]] == "beam.smp"
    assert not any(Path(f"/proc/{pid}").stat().st_uid == 0 for pid in names)
    assert all(address in {"0100007F", "0" * 24 + "01000000"} for address in _listening(names))


def _listening(pids: dict[int, str]) -> set[str]:
    """The hexadecimal local addresses on which any of the processes listens (proc_net(5))."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}


async def test_users_vhosts_and_queues_are_there(rabbitmq_server: RabbitMQ) -> None:
    """Rights are what the probe's tests turn; a password may hold anything."""
    looker = User("looker", "@:/ %", configure="^$", write="^$", vhost="shop")
    rabbitmq_server.define(users=[looker], vhosts=["shop"], queues=[Queue("orders", vhost="shop")])
    url = rabbitmq_server.url_of("shop", user="looker", password="@:/ %")
    assert await _ready_in(url, "orders") == 0
    with pytest.raises(AMQPException, match=r"ACCESS_REFUSED|access to queue"):
        async with _connected(url) as connection, connection.channel() as channel:
            await channel.declare_queue("mine")
    with pytest.raises(AMQPException):
        await aio_pika.connect(rabbitmq_server.url_of("/", user="looker", password="@:/ %"), timeout=5)


async def test_control_speaks_to_the_node(rabbitmq_server: RabbitMQ) -> None:
    """Alarms and the like are raised by it; what it refuses is told."""
    assert await asyncio.to_thread(rabbitmq_server.control, "eval", "1 + 1.") == "2\n"
    with pytest.raises(ServerFailed, match="rabbitmqctl nonsense exited"):
        await asyncio.to_thread(rabbitmq_server.control, "nonsense")


async def test_settings_and_tls_are_taken_and_messages_outlive_a_restart(private_rabbitmq: Starting) -> None:
    """One node for several things, as it takes five seconds to start."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate = Certificate(b"".join(pem.bytes() for pem in issued.cert_chain_pems), issued.private_key_pem.bytes())
    server = await private_rabbitmq(
        certificate=certificate, settings={"heartbeat": "17"}, queues=[Queue("orders", arguments={"x-max-priority": 3})]
    )
    assert await asyncio.to_thread(server.control, "eval", "application:get_env(rabbit, heartbeat).") == "{ok,17}\n"
    with authority.cert_pem.tempfile() as trusted:
        async with _connected(f"{server.url_of(tls=True)}?cafile={trusted}"):
            pass
    await _publish(server.url, "orders")
    pids, port = server.processes, server.port
    await asyncio.to_thread(server.restart)
    assert (still_running(pids), server.port) == ([], port)
    assert await _ready_in(server.url, "orders") == 1


async def test_frozen_it_accepts_and_answers_nothing_and_killed_it_is_gone(private_rabbitmq: Starting) -> None:
    """Both reach the node and what came of it; it comes back on its port after either, and leaves nothing when closed frozen."""
    server = await private_rabbitmq()
    await asyncio.to_thread(server.freeze)
    assert is_listening(server.port)
    with pytest.raises(TimeoutError):
        await aio_pika.connect(server.url, timeout=0.5)
    await asyncio.to_thread(server.thaw)
    async with _connected(server.url):
        pass
    pids = server.processes
    await asyncio.to_thread(server.kill)
    assert (still_running(pids), is_listening(server.port), is_listening(server.epmd_port)) == ([], False, False)
    await asyncio.to_thread(server.start)
    async with _connected(server.url):
        pass
    pids = server.processes
    await asyncio.to_thread(server.freeze)
    await asyncio.to_thread(server.close)
    assert (still_running(pids), server.folder.exists()) == ([], False)
    await eventually(lambda: not is_listening(server.port) and not is_listening(server.epmd_port), 1)


_OWNER = """
import time
from exporter.demo.servers import RabbitMQ
server = RabbitMQ()
server.start()
print(server.folder, server.epmd_port, *server.processes, flush=True)
time.sleep(600)
"""


def test_nothing_outlives_a_killed_owner() -> None:
    """kill -9 runs no cleanup of ours; node, helpers and epmd must be gone two seconds later."""
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        folder, epmd_port, *pids = owner.stdout.readline().split()
    processes = tuple(map(int, pids))
    assert len(processes) > 3
    owner.kill()
    owner.wait()
    eventually_now(lambda: not still_running(processes), 2)
    eventually_now(lambda: not Path(folder).exists(), 2)
    assert not is_listening(int(epmd_port))


def test_a_missing_server_is_one_line_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo names it and goes on without it; a test fails with this line."""
    monkeypatch.setattr(rabbitmq_module, "SCRIPTS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingServer, match="rabbitmq-server is missing: as root `apt-get install"):
        find_rabbitmq()
