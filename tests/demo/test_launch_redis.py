"""Redis as the demo and the tests start it: each option does what it says, and nothing is left."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions
import trustme

from exporter.demo.servers import Certificate, MissingServer, Redis, find_redis
from exporter.demo.servers import redis as redis_module
from tests.servers import eventually, is_listening, start_redis, still_running

Starting = Callable[..., Awaitable[Redis]]


async def _ask(url: str, *command: str, **options: Any) -> object:
    async with redis.asyncio.Redis.from_url(url, **options) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_its_password_is_asked_for(redis_server: Redis) -> None:
    """Whoever else is on the machine can reach the port."""
    assert await _ask(redis_server.url, "PING") is True
    with pytest.raises(redis.exceptions.AuthenticationError):
        await _ask(redis_server.url_of(password="wrong"), "PING")


def test_redis_is_private_and_unprivileged(redis_server: Redis) -> None:
    """Its folder and its password are its own, and a break-in through it must not yield root."""
    owner = redis_server.folder.stat()
    assert owner.st_mode & 0o777 == 0o700
    [pid] = redis_server.processes
    assert Path(f"/proc/{pid}").stat().st_uid == owner.st_uid != 0
    assert redis_server.password.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_acl_users_settings_tls_and_the_socket_are_taken(private_redis: Starting) -> None:
    """The probe's tests need each of these on a real server."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate = Certificate(b"".join(pem.bytes() for pem in issued.cert_chain_pems), issued.private_key_pem.bytes())
    server = await private_redis(acl=["user looker on >look +ping"], settings={"maxclients": "17"}, certificate=certificate)
    looker = server.url_of(username="looker", password="look")
    assert await _ask(looker, "PING") is True
    with pytest.raises(redis.exceptions.NoPermissionError):
        await _ask(looker, "INFO")
    assert b"17" in str(await _ask(server.url, "CONFIG", "GET", "maxclients")).encode()
    assert await _ask(server.unix_url, "PING") is True
    with authority.cert_pem.tempfile() as trusted:
        assert await _ask(server.url_of(tls=True), "PING", ssl_ca_certs=trusted) is True


async def test_a_replica_follows(redis_server: Redis, private_redis: Starting) -> None:
    """Role, lag and MASTERDOWN are read from one."""
    replica = await private_redis(replica_of=redis_server)

    async def linked() -> bool:
        return "master_link_status': 'up" in str(await _ask(replica.url, "INFO", "replication"))

    await eventually(linked, 10)


async def test_without_a_password_everybody_is_let_in(private_redis: Starting) -> None:
    """NOAUTH is the answer to those who bring none; this is its opposite."""
    server = await private_redis(password="")
    assert "@" not in server.url
    assert await _ask(server.url, "PING") is True


async def test_data_outlives_a_restart_on_the_same_port(private_redis: Starting) -> None:
    """A probe is to find the repaired server where it was, and what it watches in it."""
    server = await private_redis()
    await _ask(server.url, "SET", "kept", "7")
    port = server.port
    server.restart()
    assert (server.port, await _ask(server.url, "GET", "kept")) == (port, b"7")
    server.kill()
    assert not is_listening(port)
    server.start()
    assert await _ask(server.url, "GET", "kept") == b"7"


async def test_frozen_it_accepts_and_answers_nothing(private_redis: Starting) -> None:
    """The fault that deadlines exist for."""
    server = await private_redis()
    server.freeze()
    assert is_listening(server.port)
    with pytest.raises(redis.exceptions.TimeoutError):
        await _ask(server.url, "PING", socket_timeout=0.3)
    server.thaw()
    assert await _ask(server.url, "PING") is True


def test_closing_leaves_nothing() -> None:
    """No process, no folder, no port, frozen or not."""
    server = start_redis()
    pids = server.processes
    server.freeze()
    server.close()
    assert (still_running(pids), server.folder.exists(), is_listening(server.port)) == ([], False, False)


def test_a_missing_server_is_one_line_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test never skips for it: it fails with this line."""
    monkeypatch.setattr(redis_module, "_candidates", lambda: iter([Path("/nonexistent/redis-server")]))
    with pytest.raises(MissingServer, match="redis-server is missing: as root `apt-get install"):
        find_redis()


def test_valkey_is_taken_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 13 and others have it in Redis' place."""
    (tmp_path / "valkey-server").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis() == tmp_path / "valkey-server"
