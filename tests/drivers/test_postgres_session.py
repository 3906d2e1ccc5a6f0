"""A session on a real server: what it sends, what it refuses, how it ends, and the reason when it cannot be had."""

import asyncio
import errno
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from exporter import phase
from exporter.demo.servers import HOST, Postgres
from exporter.drivers.dns import Address, Addresses, Resolver
from exporter.drivers.postgres import Answer, Budget, Endpoint, Login, Session, connect, translate
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import Secret
from tests.faults import Listen, black_hole, peer, resetting, silent
from tests.servers import closed_port, eventually, execute, fetch, nothing_left

ROOT = Path(__file__).parents[2]
StartPostgres = Callable[..., Awaitable[Postgres]]


def login_to(server: Postgres, database: str = "postgres", **parts: object) -> Login:
    own = {"username": server.user, "password": Secret(server.password), **parts}
    return Login(Endpoint(HOST, server.port), database=database, **own)  # type: ignore[arg-type]  # parts of a Login


@asynccontextmanager
async def session_with(login: Login, resolver: Resolver | None = None) -> AsyncIterator[Session]:
    session = await connect(login, resolver or Resolver(), lambda abort: None)
    try:
        yield session
    finally:
        session.abort()


@pytest.fixture
async def session(postgres_server: Postgres, database: str) -> AsyncIterator[Session]:
    """A session in an empty database of its own."""
    async with session_with(login_to(postgres_server, database.rpartition("/")[2])) as opened:
        yield opened


async def ask(session: Session, sql: str, seconds: float = 5.0, most_rows: int = 100) -> Answer:
    answer = await session.read("q", sql, Budget.of(seconds), most_rows=most_rows)
    assert isinstance(answer, Answer), answer
    return answer


async def refused(session: Session, sql: str, seconds: float = 5.0) -> ProbeError:
    answer = await session.read("q", sql, Budget.of(seconds), most_rows=100)
    assert isinstance(answer, ProbeError)
    return answer


async def failure(login: Login, seconds: float = 5.0) -> ProbeError:
    """The error with which connecting ends."""
    abort: list[Callable[[], None]] = []
    with pytest.raises(ProbeError) as caught:
        async with asyncio.timeout(seconds):
            await connect(login, Resolver(), abort.append)
    for end in abort:
        end()
    return caught.value


# --- statements -------------------------------------------------------------------------------------------------------------


async def test_numbers_are_numbers_and_all_else_is_the_servers_text(session: Session, database: str) -> None:
    """Enums, arrays, domains and composites come as text, without a question to the catalogue; NULL stays None."""
    await execute(
        database,
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE DOMAIN positive AS int CHECK (value > 0)",
        "CREATE TYPE pair AS (a int, b text)",
    )
    sql = (
        "SELECT 1::int2, 2::int8, 1.5::float8, 2.50::numeric, true, 't'::text, 'ok'::mood, ARRAY['ok']::mood[], '{1,2}'::int[],"
        " 3::positive, (1, 'x')::pair, '2024-02-29'::date, '1 day'::interval, 'r'::\"char\", 'pg_class'::regclass, '{}'::jsonb,"
        " NULL"
    )
    (row,) = (await ask(session, sql)).rows
    assert [str(cell) for cell in row] == (
        [
            "1",
            "2",
            "1.5",
            "2.50",
            "True",
            "t",
            "ok",
            "{ok}",
            "{1,2}",
            "3",
            "(1,x)",
            "2024-02-29",
            "1 day",
            "r",
            "pg_class",
            "{}",
            "None",
        ]
    )


async def test_no_more_rows_than_asked_for(session: Session) -> None:
    """A mistaken SELECT is cut on the server: a million rows are never sent."""
    answer = await ask(session, "SELECT i FROM generate_series(1, 1000000) AS g(i)", most_rows=3)
    assert answer == Answer(("i",), ((1,), (2,), (3,)))


@pytest.mark.parametrize(
    ("sql", "reason", "message"),
    [
        ("SELECT 1; SELECT 2", Reason.CONFIG, "42601 cannot insert multiple commands into a prepared statement"),
        ("DELETE FROM t", Reason.CONFIG, "returns no rows; write one SELECT"),
        ("COMMIT", Reason.CONFIG, "returns no rows; write one SELECT"),
        ("DELETE FROM t RETURNING i", Reason.CONFIG, "25006 cannot execute DELETE in a read-only transaction"),
        ("WITH d AS (DELETE FROM t RETURNING i) SELECT * FROM d", Reason.CONFIG, "25006 cannot execute SELECT in a read-only"),
        ("SELECT set_config('transaction_read_only', 'off', true) FROM t", Reason.CONFIG, "25001 transaction read-write mode"),
        ("SELECT $1::int", Reason.CONFIG, "has parameters such as $1; write the values"),
        ("SELECT wrong FROM t", Reason.CONFIG, "42703 column … does not exist"),
        ("SELECT 1 FROM nowhere", Reason.CONFIG, "42P01 relation … does not exist"),
        ("SELECT i / 0 FROM t", Reason.CONFIG, "22012 division by zero"),
        ("SELECT 'hunter2'::int", Reason.CONFIG, "22P02 invalid input syntax for type integer: …"),
        ("SELECT pg_sleep(5)", Reason.TIMEOUT, "57014 canceling statement due to statement timeout"),
    ],
)
async def test_a_refused_statement_says_why_and_leaves_the_session_usable(
    session: Session, database: str, sql: str, reason: Reason, message: str
) -> None:
    """One wrong query must not cost a reconnect at every run; of the server's words no literal goes on."""
    await execute(database, "CREATE TABLE t AS SELECT 7 AS i")
    error = await refused(session, sql, 0.5 if "sleep" in sql else 5.0)
    assert error.reason is reason
    assert message in str(error)
    assert str(error).startswith(f"q on {session.place}: ")
    assert not error.retryable
    assert (await ask(session, "SELECT i FROM t")).rows == ((7,),)


async def test_a_table_without_right_is_forbidden(postgres_server: Postgres, database: str) -> None:
    """The operator needs a GRANT, not another query."""
    await execute(database, "CREATE TABLE secret AS SELECT 1", "DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN PASSWORD 'p'")
    login = login_to(postgres_server, database.rpartition("/")[2], username="plain", password=Secret("p"))
    async with session_with(login) as session:
        error = await refused(session, "SELECT * FROM secret")
    assert (error.reason, error.retryable) == (Reason.FORBIDDEN, False)
    assert str(error).endswith("42501 permission denied for table secret")


async def test_a_locked_table_is_given_up_early(session: Session, database: str) -> None:
    """Whoever queues behind an ALTER TABLE makes others queue behind himself: a second at most, less where less time is left."""
    await execute(database, "CREATE TABLE t AS SELECT 7 AS i")
    holder = await asyncpg.connect(database, ssl=False)
    async with holder.transaction():
        await holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        began = asyncio.get_running_loop().time()
        error = await refused(session, "SELECT i FROM t", seconds=1.0)
        assert asyncio.get_running_loop().time() - began < 0.9
    await holder.close()
    assert (error.reason, error.retryable) == (Reason.TIMEOUT, False)
    assert str(error).endswith("55P03 canceling statement due to lock timeout")


async def test_timeouts_follow_each_statement_and_leave_the_session_as_it_was(session: Session) -> None:
    """A short run must not cut a longer one after it; behind a pooler the session is somebody else's next."""
    await refused(session, "SELECT pg_sleep(1)", seconds=0.2)
    await ask(session, "SELECT pg_sleep(0.4)", seconds=10)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "default_transaction_read_only")
    inside = (await ask(session, f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}", seconds=10)).rows
    assert inside == (("7500ms", "1s", "7500ms", "on"),)
    outside = {name: await session._connection.fetchval(f"SHOW {name}") for name in names}
    assert outside == dict(zip(names, ("0", "0", "0", "off"), strict=True))
    assert not session._connection.is_in_transaction()


async def test_no_statement_begins_without_time_left(session: Session) -> None:
    """Its refusal could not come home before the deadline, and the server would go on with it; the session is as good as before."""
    error = await refused(session, "SELECT 1", seconds=0.01)
    assert (error.reason, error.retryable) == (Reason.TIMEOUT, False)
    assert str(error) == f"q on {session.place}: no time left to run it"
    await ask(session, "SELECT 1")


async def test_a_statement_that_took_long_to_parse_is_not_run(session: Session, database: str) -> None:
    """The server counts its timeout anew for each message: parsing, planning and running could outlive the deadline together."""
    sleepy = "CREATE FUNCTION sleepy() RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT 1 FROM pg_sleep(0.4) $$"
    await execute(database, sleepy, "ALTER FUNCTION sleepy() SET search_path = public")  # kept from being inlined
    began = asyncio.get_running_loop().time()
    error = await refused(session, "SELECT sleepy() AS n, pg_sleep(0.7)", seconds=1.0)  # an immutable call is run while planning
    assert str(error).endswith("no time left to run it")
    assert asyncio.get_running_loop().time() - began < 0.8


# --- connecting -------------------------------------------------------------------------------------------------------------


async def test_the_server_sees_who_we_are(session: Session, database: str) -> None:
    """An operator who looks at pg_stat_activity must find us by name."""
    name = database.rpartition("/")[2]
    rows = await fetch(
        database, "SELECT application_name FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", name
    )
    assert rows == [("sidecar-exporter",)]


async def test_only_parameters_that_poolers_take_are_sent() -> None:
    """PgBouncer refuses a login with a parameter it does not know, such as statement_timeout."""
    startup: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        startup.append(await reader.read(1000))

    async with peer(listen) as port:
        await failure(Login(Endpoint(HOST, port, "disable"), "u", Secret("p"), "d"))
    words = startup[0][8:].rstrip(b"\0").split(b"\0")
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        b"user": b"u",
        b"database": b"d",
        b"client_encoding": b"'utf-8'",
        b"application_name": b"sidecar-exporter",
    }


async def test_why_a_login_fails(postgres_server: Postgres, database: str) -> None:
    """Each cure is another one: a password, a database name, a GRANT, fewer connections."""
    name = database.rpartition("/")[2]
    await execute(
        database,
        "DROP ROLE IF EXISTS full_up",
        "CREATE ROLE full_up LOGIN PASSWORD 'p' CONNECTION LIMIT 0",
        "DROP ROLE IF EXISTS stranger",
        "CREATE ROLE stranger LOGIN PASSWORD 'p'",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
    )
    place = f"log in to {HOST}:{postgres_server.port}"
    expected = {
        (postgres_server.user, "wrong", name): (Reason.AUTH, f"{place}: 28P01 password authentication failed for user …"),
        ("nobody", "wrong", name): (Reason.AUTH, f"{place}: 28P01 password authentication failed for user …"),
        (postgres_server.user, None, "gone"): (Reason.FORBIDDEN, f"{place}: 3D000 database … does not exist"),
        ("stranger", "p", name): (Reason.FORBIDDEN, f"{place}: 42501 permission denied for database …"),
        ("full_up", "p", "postgres"): (Reason.OVERLOAD, f"{place}: 53300 too many connections for role …"),
    }
    for (user, password, wanted), (reason, message) in expected.items():
        login = login_to(postgres_server, wanted, username=user, password=Secret(password or postgres_server.password))
        error = await failure(login)
        assert (error.reason, str(error)) == (reason, message)
        assert error.retryable is (reason is Reason.OVERLOAD)


async def test_a_login_without_password_reads_no_file(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libpq takes from PGPASSWORD or HOME would make two exporters with the same configuration differ."""
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    error = await failure(login_to(postgres_server, password=None))
    assert error.reason is Reason.AUTH


async def test_why_a_server_cannot_be_reached() -> None:
    """The message names the place and the system's words for it."""
    with closed_port() as port:
        error = await failure(Login(Endpoint(HOST, port)))
    assert (error.reason, str(error)) == (Reason.REFUSED, f"connect {HOST}:{port}: connection refused")
    error = await failure(Login(Endpoint("/nowhere", 5432)))
    assert (error.reason, str(error)) == (Reason.REFUSED, "connect /nowhere/.s.PGSQL.5432: no such file or directory")
    error = await failure(Login(Endpoint("nowhere.invalid", 5432)))
    assert (error.reason, str(error)[:24]) == (Reason.DNS, "resolve nowhere.invalid:")
    async with resetting(after=8) as port:
        for sslmode in ("disable", "require"):
            assert (await failure(Login(Endpoint(HOST, port, sslmode), "u"))).reason is Reason.RESET


@pytest.mark.parametrize(("peer_of", "waits_for"), [(silent, "log in to"), (black_hole, "connect")], ids=["silent", "black hole"])
async def test_a_deadline_names_what_was_waited_for(
    peer_of: Callable[[], AbstractAsyncContextManager[int]], waits_for: str
) -> None:
    """Whoever is told `timeout` must be told where."""
    async with nothing_left(), peer_of() as port:
        phases = phase.begin()
        task = asyncio.create_task(connect(Login(Endpoint(HOST, port, "disable"), "u"), Resolver(), lambda abort: None))
        await eventually(lambda: phases.innermost == (f"{waits_for} {HOST}:{port}", Reason.TIMEOUT), within=5)
        task.cancel()
        await asyncio.wait([task])


class TwoAddresses(Resolver):
    """A name with an address where nobody listens before the right one."""

    async def resolve(self, host: str) -> Addresses:
        return (Address(socket.AF_INET, "127.0.0.2"), Address(socket.AF_INET, HOST))


async def test_addresses_are_tried_in_order(postgres_server: Postgres) -> None:
    """After a failover a name may still have its old address first."""
    async with session_with(login_to(postgres_server), TwoAddresses()) as session:
        await session.ping()


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder any server can put its socket into; short, for a socket's path has at most 107 bytes (unix(7))."""
    folder = Path(tempfile.mkdtemp(prefix="sidecar-socket-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


async def test_a_unix_socket(private_postgres: StartPostgres, socket_folder: Path) -> None:
    """A sidecar may share the server's socket; TLS is never spoken there, whatever sslmode says."""
    server = await private_postgres(settings={"unix_socket_directories": str(socket_folder)}, hba=["local all all trust"])
    login = Login(Endpoint(str(socket_folder), server.port, "verify-full"), "postgres")
    async with session_with(login) as session:
        await session.ping()
        assert (session.encrypted, session.place) == (False, f"{socket_folder}/.s.PGSQL.{server.port}")


async def test_a_unix_socket_that_accepts_nobody_is_waited_for(socket_folder: Path) -> None:
    """A frozen server's listen queue fills up: a timeout, as by TCP, and not a connection that somebody closed."""
    endpoint = Endpoint(str(socket_folder), 5432)
    async with nothing_left(), black_hole(Listen(endpoint.place)):
        phases = phase.begin()
        task = asyncio.create_task(connect(Login(endpoint, "u"), Resolver(), lambda abort: None))
        done, _ = await asyncio.wait((task,), timeout=0.2)
        assert (done, phases.innermost) == (set(), (f"connect {endpoint.place}", Reason.TIMEOUT))
        task.cancel()
        await asyncio.wait([task])


async def test_a_hundred_failing_connects_leave_nothing_open(postgres_server: Postgres) -> None:
    """Refused, reset, garbled or denied: no socket, no task."""
    async with nothing_left(), resetting(after=8) as resets, closed_port_async() as closed:
        logins = (
            Login(Endpoint(HOST, closed), "u"),
            Login(Endpoint(HOST, resets), "u"),
            login_to(postgres_server, password=Secret("no")),
        )
        for number in range(100):
            await failure(logins[number % 3])


@asynccontextmanager
async def closed_port_async() -> AsyncIterator[int]:
    with closed_port() as port:
        yield port


# --- asyncpg kept away from HOME ----------------------------------------------------------------------------------------------

_CHILD = """
import asyncio, os, sys
from exporter.drivers.dns import Resolver
from exporter.drivers.postgres import Endpoint, Login, connect
from exporter.secret import Secret

async def main(port, password):
    login = Login(Endpoint("127.0.0.1", port), "postgres", Secret(password) if password else None, "postgres")
    session = await connect(login, Resolver(), lambda abort: None)
    await session.ping()
    session.abort()
    print("answered")

if os.geteuid() == 0:  # root reads everything; nobody may not be able to read this interpreter, which has been imported by now
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    """A HOME that only root can read, and that nobody at all can where we are not root."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o700 if os.geteuid() == 0 else 0)
    yield home
    home.chmod(0o700)


@pytest.mark.parametrize("with_password", [True, False])
async def test_an_unreadable_home_does_not_matter(private_postgres: StartPostgres, unreadable: Path, with_password: bool) -> None:
    """asyncpg by itself fails on ~/.postgresql/postgresql.key, and looks for ~/.pgpass."""
    server = await private_postgres(hba=[] if with_password else ["host all all 127.0.0.1/32 trust"])
    environment = {"HOME": str(unreadable), "PYTHONPATH": str(ROOT)}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CHILD, str(server.port), server.password if with_password else ""),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await asyncio.wait_for(child.communicate(), 30)
    assert (child.returncode, said.strip()) == (0, b"answered"), complaint.decode()


# --- translations that no server of ours can be brought to say ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("sqlstate", "reason", "retryable"),
    [
        ("57P01", Reason.NOT_READY, True),
        ("57P03", Reason.NOT_READY, True),
        ("57P05", Reason.RESET, True),
        ("25P03", Reason.TIMEOUT, False),
        ("40001", Reason.NOT_READY, True),
        ("08P01", Reason.PROTOCOL, True),
        ("08006", Reason.UNREACHABLE, True),
        ("0A000", Reason.UNSUPPORTED, False),
        ("53200", Reason.OVERLOAD, True),
        ("58030", Reason.NOT_READY, True),
        ("XX000", Reason.NOT_READY, True),
        ("28000", Reason.AUTH, False),
        ("P0001", Reason.CONFIG, False),
        ("ZZ999", Reason.CONFIG, False),
    ],
)
def test_sqlstates_have_reasons(sqlstate: str, reason: Reason, retryable: bool) -> None:
    """Reasons are a closed set: every SQLSTATE falls into one."""
    error = asyncpg.PostgresError.new({"C": sqlstate, "M": "said 'a secret' \"b\"", "D": "row (7)"})
    told = translate(error, "here")
    assert told is not None
    assert (told.reason, told.retryable, str(told)) == (reason, retryable, f"here: {sqlstate} said … …")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), Reason.UNREACHABLE),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), Reason.UNREACHABLE),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), Reason.RESET),
        (ConnectionResetError(), Reason.RESET),
        (TimeoutError(), Reason.TIMEOUT),
        (asyncpg.InterfaceError("connection is closed"), Reason.RESET),
        (asyncpg.InterfaceError("unsupported SASL Authentication methods requested by the server"), Reason.UNSUPPORTED),
        (asyncpg.InterfaceError("could not verify server signature for SCRAM authentication: scram-sha-256"), Reason.AUTH),
    ],
)
def test_errors_of_the_system_and_of_asyncpg_have_reasons(error: Exception, reason: Reason) -> None:
    """What is not in the table is our own bug, and these are not."""
    told = translate(error, "connect db:5432")
    assert told is not None
    assert told.reason is reason
    assert str(told).startswith("connect db:5432: ")


def test_our_own_bugs_are_not_translated() -> None:
    """They must come out as reason internal, with a traceback in the log."""
    for bug in (KeyError("x"), TypeError("y"), AssertionError(), RuntimeError()):
        assert translate(bug) is None
