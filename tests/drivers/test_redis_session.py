"""Sessions with real servers, and with peers that answer what they should not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import trustme
from redis import exceptions

from exporter import phase
from exporter.demo.servers import HOST, Certificate, Redis
from exporter.drivers.dns import Resolver
from exporter.drivers.kept import Lease
from exporter.drivers.redis import Endpoint, Greeting, Login, Message, Session, connect, translate
from exporter.drivers.redis.errors import Refusal
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import Secret
from tests.faults import black_hole, garbage, peer, silent
from tests.servers import eventually, nothing_left, start_redis

CANARY = "tr0ub4dor-canary"

StartRedis = Callable[..., Awaitable[Redis]]

Protocol = Literal[2, 3]
both_protocols = pytest.mark.parametrize("protocol", [3, 2])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Iterator[Redis]:
    """With TLS, and with users who may do little."""
    issued = authority.issue_cert("localhost")
    with ExitStack() as stack:
        redis = start_redis(
            certificate=Certificate(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()),
            acl=(
                "user pinger on >p1ng-word -@all +ping +select",
                "user deaf on >deaf-word -@all +ping +psubscribe +subscribe &open.*",
            ),
        )
        stack.callback(redis.close)
        yield redis


def login(server: Redis, protocol: Protocol = 3, **keys: object) -> Login:
    given = Login(Endpoint(HOST, server.port), password=Secret(server.password), protocol=protocol)
    return replace(given, **keys)  # type: ignore[arg-type]  # the fields of Login


@asynccontextmanager
async def session(login: Login) -> AsyncIterator[Session]:
    lease = Lease("test")
    try:
        yield await connect(login, Resolver(), lease.hold)
    finally:
        lease.drop()


async def refused(login: Login) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        async with session(login):
            pass
    assert CANARY not in str(caught.value)
    return caught.value


# --- logging in -------------------------------------------------------------------------------------------------------------


async def test_hello_tells_who_answers(server: Redis) -> None:
    """Version, mode and role come without any right."""
    async with session(login(server)) as one:
        assert one.greeting == Greeting((await _field(one, "redis_version")), "standalone", "master")
        assert (one.protocol, one.encrypted, one.alive) == (3, False, True)


async def _field(one: Session, name: str) -> str:
    text = await one.execute("INFO")
    assert isinstance(text, bytes)
    return dict(line.partition(":")[::2] for line in text.decode().splitlines())[name]


@both_protocols
async def test_we_have_a_name_and_a_database(server: Redis, protocol: Protocol) -> None:
    """An administrator tells our connections apart in CLIENT LIST."""
    async with session(login(server, protocol, db=3)) as one:
        told = await one.execute("CLIENT", "INFO")
        assert isinstance(told, bytes)
        facts = dict(pair.partition("=")[::2] for pair in told.decode().split())
        assert (facts["name"], facts["db"], facts["resp"]) == ("sidecar-exporter", "3", str(protocol))


@both_protocols
async def test_a_user_with_next_to_no_right_gets_in(server: Redis, protocol: Protocol) -> None:
    """The name we take is a courtesy: without the right to it we go on."""
    who = {"username": "pinger", "password": Secret("p1ng-word")}
    async with session(login(server, protocol, db=2, **who)) as one:
        assert await one.execute("PING") == b"PONG"
        with pytest.raises(ProbeError) as caught:
            await one.execute("INFO")
        assert caught.value.reason is Reason.FORBIDDEN
        assert str(caught.value).startswith(f"INFO on {HOST}:{server.port}: NOPERM ")
        assert await one.execute("PING") == b"PONG"  # a refusal leaves the session in order
        assert one.alive


async def test_tls_is_verified_by_the_name_that_was_asked_for(server: Redis, authority: trustme.CA, tmp_path: Path) -> None:
    """The certificate is for localhost: the address does not pass, the name does, and a name given for it does."""
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    tls = Tls(ca_file=str(ca))
    async with session(login(server, endpoint=Endpoint("localhost", server.tls_port, tls))) as one:
        assert (await one.execute("PING"), one.encrypted) == (b"PONG", True)
    async with session(login(server, endpoint=Endpoint(HOST, server.tls_port, replace(tls, server_name="localhost")))) as one:
        assert one.encrypted
    error = await refused(login(server, endpoint=Endpoint(HOST, server.tls_port, tls)))
    assert error.reason is Reason.TLS
    assert "IP address mismatch" in str(error)


async def test_a_missing_file_is_config_before_anything_is_connected() -> None:
    """It is the same mistake whether or not the server is there."""
    error = await refused(Login(Endpoint("nowhere.invalid", 1, Tls(ca_file="/nowhere/ca.pem"))))
    assert (error.reason, str(error)) == (Reason.CONFIG, "tls.ca_file /nowhere/ca.pem: no such file or directory")


async def test_a_socket_is_a_way_too(server: Redis) -> None:
    """The sidecar of a pod that shares a folder with its Redis; one that is not there is refused, as a closed port."""
    async with session(login(server, endpoint=Endpoint(str(server.unix_socket)))) as one:
        assert await one.execute("PING") == b"PONG"
    error = await refused(login(server, endpoint=Endpoint("/nowhere/socket")))
    assert (error.reason, str(error)) == (Reason.REFUSED, "connect /nowhere/socket: no such file or directory")


@both_protocols
@pytest.mark.parametrize(
    ("keys", "reason", "told"),
    [
        ({"password": Secret(CANARY)}, Reason.AUTH, "WRONGPASS invalid username-password pair or user is disabled."),
        ({"username": "nobody"}, Reason.AUTH, "WRONGPASS invalid username-password pair or user is disabled."),
    ],
)
async def test_a_refused_login_says_why(
    server: Redis, protocol: Protocol, keys: dict[str, object], reason: Reason, told: str
) -> None:
    """Each with the server's code word."""
    error = await refused(login(server, protocol, **keys))
    assert (error.reason, str(error)) == (reason, f"log in to {HOST}:{server.port}: {told}")


@both_protocols
async def test_a_database_that_is_not_ours_is_told(server: Redis, protocol: Protocol) -> None:
    """One that does not exist, and one that we have no right to choose."""
    error = await refused(login(server, protocol, db=99))
    assert (error.reason, str(error)) == (Reason.CONFIG, f"SELECT 99 on {HOST}:{server.port}: ERR DB index is out of range")
    error = await refused(login(server, protocol, db=1, username="deaf", password=Secret("deaf-word")))
    assert (error.reason, str(error).startswith(f"SELECT 1 on {HOST}:{server.port}: NOPERM ")) == (Reason.FORBIDDEN, True)


async def test_no_password_where_one_is_needed_is_auth(server: Redis) -> None:
    """RESP3 is told at the greeting, RESP2 with the first command."""
    error = await refused(login(server, password=None))
    assert (error.reason, "NOAUTH" in str(error)) == (Reason.AUTH, True)
    async with session(login(server, 2, password=None)) as one:
        with pytest.raises(ProbeError) as caught:
            await one.execute("PING")
        assert caught.value.reason is Reason.AUTH


@both_protocols
@pytest.mark.parametrize("db", [0, 1])
async def test_a_full_server_is_overload(private_redis: StartRedis, protocol: Protocol, db: int) -> None:
    """It says so before it was asked anything, and closes: not all that was asked is answered."""
    server = await private_redis(settings={"maxclients": "1"})
    async with session(login(server)) as one:
        assert await one.execute("PING") == b"PONG"
        error = await refused(login(server, protocol, db=db))
        assert (error.reason, "max number of clients reached" in str(error)) == (Reason.OVERLOAD, True)


def answering(*answers: bytes) -> AbstractAsyncContextManager[int]:
    """A peer that gives one answer for each packet, as old and odd servers do; then it is silent."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(65536)
            writer.write(answer)
        await reader.read(65536)
        await asyncio.Event().wait()

    return peer(behave)


OLD = b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `" + CANARY.encode() + b"`, \r\n"


@pytest.mark.parametrize("hello", [OLD, b"-NOPROTO unsupported protocol version\r\n"])
async def test_a_server_without_resp3_is_spoken_to_in_resp2(hello: bytes) -> None:
    """Redis 5 and some proxies; no server of that age runs here, so its words are said by a peer."""
    async with answering(hello, b"+OK\r\n+OK\r\n", b"$-1\r\n") as port:
        async with session(Login(Endpoint(HOST, port), password=Secret(CANARY))) as one:
            assert (one.protocol, one.greeting) == (2, None)
            assert await one.execute("GET", "x") is None


async def test_what_an_old_server_repeats_is_not_told() -> None:
    """Redis 5 quotes the arguments of a command that it does not know, the password among them."""
    async with answering(OLD, OLD.replace(b"HELLO", b"AUTH") + b"+OK\r\n") as port:
        error = await refused(Login(Endpoint(HOST, port), password=Secret(CANARY)))
    assert str(error) == f"log in to {HOST}:{port}: ERR unknown command …"


@pytest.mark.parametrize(
    "hello", [b"+OK\r\n", b"*2\r\n+proto\r\n:3\r\n", b"%1\r\n+proto\r\n:2\r\n", b"%1\r\n*0\r\n:3\r\n", b">0\r\n", b"*1\r\n,.\r\n"]
)
async def test_an_answer_that_is_no_greeting_is_protocol(hello: bytes) -> None:
    """Well framed, and still not Redis."""
    async with answering(hello) as port:
        error = await refused(Login(Endpoint(HOST, port)))
        assert error.reason is Reason.PROTOCOL, error


async def test_a_thousand_pushes_before_the_answer_are_protocol() -> None:
    """redis-py's parser calls itself for each of them."""
    async with answering(b">1\r\n+invalidate\r\n" * 5000) as port:
        assert (await refused(Login(Endpoint(HOST, port)))).reason is Reason.PROTOCOL


# --- asking -----------------------------------------------------------------------------------------------------------------


@both_protocols
async def test_a_pipeline_gives_an_answer_for_each_command(server: Redis, protocol: Protocol) -> None:
    """A refusal in the middle takes nothing from the others."""
    async with session(login(server, protocol, db=5)) as one:
        answers = await one.pipeline(
            ("RPUSH", "list", "a", b"\xff", 7), ("LRANGE", "list", 0, -1), ("GET", "list"), ("GET", "none"), ("DEL", "list")
        )
        assert await one.pipeline() == ()
        pushed, items, refusal, none, deleted = answers
        assert (pushed, items, none, deleted) == (3, [b"a", b"\xff", b"7"], None, 1)
        assert isinstance(refusal, ProbeError)
        assert (refusal.reason, str(refusal)) == (
            Reason.CONFIG,
            f"GET on {HOST}:{server.port}: WRONGTYPE Operation against a key holding the wrong kind of value",
        )


async def test_a_message_names_no_argument(server: Redis) -> None:
    """Keys can be secrets, and the server repeats what it does not understand."""
    async with session(login(server)) as one:
        with pytest.raises(ProbeError) as caught:
            await one.execute("FROBNICATE", CANARY)
        assert str(caught.value) == f"FROBNICATE on {HOST}:{server.port}: ERR unknown command …"
        with pytest.raises(ProbeError) as caught:
            await one.execute("SET", "key", CANARY, CANARY)
        assert CANARY not in str(caught.value)


async def test_a_wait_says_what_it_waits_for(server: Redis) -> None:
    """The engine's deadline names it."""
    phases = phase.begin()
    async with session(login(server)) as one:
        task = asyncio.ensure_future(one.execute("BLPOP", "nothing", 0))
        await eventually(lambda: phases.innermost[0], 5)
        assert phases.innermost == (f"BLPOP on {HOST}:{server.port}", Reason.TIMEOUT)
        task.cancel()
        await asyncio.wait([task])
    async with black_hole() as port:
        connecting = asyncio.ensure_future(refused(Login(Endpoint(HOST, port))))
        await eventually(lambda: phases.innermost[0] == f"connect {HOST}:{port}", 5)
        connecting.cancel()
        await asyncio.wait([connecting])


async def test_a_server_that_speaks_unasked_is_not_believed(server: Redis) -> None:
    """The answer to the next question would be the one before."""
    hello = b"%1\r\n+proto\r\n:3\r\n"
    async with answering(hello, b"+PONG\r\n+PONG\r\n") as port:
        async with session(Login(Endpoint(HOST, port))) as one:
            await one.execute("PING")
            assert not one.alive
            with pytest.raises(ProbeError) as caught:
                await one.execute("PING")
    assert (caught.value.reason, "more than was asked" in str(caught.value)) == (Reason.PROTOCOL, True)


async def test_a_lost_connection_is_reset(private_redis: StartRedis) -> None:
    """And nothing connects again by itself."""
    server = await private_redis()
    async with session(login(server)) as one:
        task = asyncio.ensure_future(one.execute("BLPOP", "nothing", 0))
        await asyncio.to_thread(server.kill)
        await asyncio.wait([task], timeout=5)
        for caught in (task.exception(), (await asyncio.gather(one.execute("PING"), return_exceptions=True))[0]):
            assert isinstance(caught, ProbeError)
            assert caught.reason is Reason.RESET
        assert not one.alive


@pytest.mark.parametrize("seed", range(5))
async def test_garbage_in_the_middle_of_a_session_is_protocol(seed: int) -> None:
    """The bytes before it were good."""
    async with answering(b"%1\r\n+proto\r\n:3\r\n", b"\xff" + garbage(seed)) as port, session(Login(Endpoint(HOST, port))) as one:
        with pytest.raises(ProbeError) as caught:
            await one.execute("PING")
    assert (caught.value.reason, str(port) in str(caught.value)) == (Reason.PROTOCOL, True)


@both_protocols
async def test_no_cancel_is_swallowed_and_none_leaves_anything(server: Redis, protocol: Protocol) -> None:
    """redis-py's client swallows one that lands in the tick of a reply; eighty offsets, from the connect to the last answer."""
    async with nothing_left():
        for offset in range(80):
            task = asyncio.ensure_future(_ask(login(server, protocol)))
            for _ in range(offset):
                await asyncio.sleep(0)
            cancelled = task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.cancelled() is cancelled, offset


async def _ask(login: Login) -> None:
    async with session(login) as one:
        for _ in range(3):
            await one.execute("PING")


@pytest.mark.parametrize(("tls", "waiting"), [(None, "log in to"), (Tls(), "TLS with")])
async def test_an_abort_reaches_a_connection_that_is_being_made(tls: Tls | None, waiting: str) -> None:
    """During TLS and during the greeting: the lease is dropped, and the task ends by itself."""
    lease, phases = Lease("check"), phase.begin()
    async with nothing_left(), silent() as port:
        task = asyncio.ensure_future(connect(Login(Endpoint(HOST, port, tls)), Resolver(), lease.hold))
        await eventually(lambda: phases.innermost[0] == f"{waiting} {HOST}:{port}", 5)
        lease.drop()
        await asyncio.wait([task], timeout=5)
        error = task.exception()
        assert isinstance(error, ProbeError)
        assert error.reason is Reason.RESET


# --- subscribing ------------------------------------------------------------------------------------------------------------


@both_protocols
async def test_what_is_published_is_received(server: Redis, protocol: Protocol) -> None:
    """By name and by pattern, in order, once each; nothing that was published after the confirmation is missed."""
    async with session(login(server, protocol)) as listener, session(login(server)) as speaker:
        await listener.subscribe(channels=["a", "b"], patterns=["open.*"])
        for channel, payload in (("a", "1"), ("open.x", b"\x00\xff"), ("other", "2"), ("b", "3")):
            await speaker.execute("PUBLISH", channel, payload)
        assert [await listener.receive() for _ in range(3)] == [
            Message(b"a", b"1"),
            Message(b"open.x", b"\x00\xff", b"open.*"),
            Message(b"b", b"3"),
        ]


@both_protocols
async def test_a_denied_subscription_is_forbidden(server: Redis, protocol: Protocol) -> None:
    """redis-py's psubscribe() returns before the server has answered, a denial included."""
    who = {"username": "deaf", "password": Secret("deaf-word")}
    async with session(login(server, protocol, **who)) as one:
        await one.subscribe(patterns=["open.*"])
    async with session(login(server, protocol, **who)) as one:
        with pytest.raises(ProbeError) as caught:
            await one.subscribe(patterns=["secret.*"])
    assert caught.value.reason is Reason.FORBIDDEN
    assert str(caught.value).startswith(f"PSUBSCRIBE on {HOST}:{server.port}: NOPERM ")


@both_protocols
async def test_a_subscriber_learns_that_it_was_cut_off(private_redis: StartRedis, protocol: Protocol) -> None:
    """It waits without end, but not on a dead connection."""
    server = await private_redis()
    async with session(login(server, protocol)) as one:
        await one.subscribe(channels=["a"])
        task = asyncio.ensure_future(one.receive())
        await asyncio.to_thread(server.kill)
        await asyncio.wait([task], timeout=5)
        error = task.exception()
        assert isinstance(error, ProbeError)
        assert error.reason is Reason.RESET


async def test_messages_between_two_confirmations_are_kept() -> None:
    """Nothing is lost between the reader and the inbox while subscriptions are still being confirmed."""
    lines = b"".join(b">3\r\n+message\r\n+a\r\n$1\r\n%d\r\n" % (index % 10) for index in range(30))
    confirmed = b">3\r\n+subscribe\r\n+a\r\n:1\r\n" + lines + b">3\r\n+subscribe\r\n+b\r\n:2\r\n"
    async with answering(b"%1\r\n+proto\r\n:3\r\n", confirmed) as port, session(Login(Endpoint(HOST, port))) as one:
        await one.subscribe(channels=["a", "b"])
        assert [(await one.receive()).payload for _ in range(30)] == [b"%d" % (index % 10) for index in range(30)]


# --- what went wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("NOAUTH Authentication required.", Reason.AUTH),
        ("WRONGPASS invalid username-password pair or user is disabled.", Reason.AUTH),
        ("ERR invalid password", Reason.AUTH),
        ("ERR Client sent AUTH, but no password is set", Reason.AUTH),
        ("NOPERM this user has no permissions to run the 'info' command", Reason.FORBIDDEN),
        ("DENIED Redis is running in protected mode because protected mode is enabled", Reason.FORBIDDEN),
        ("LOADING Redis is loading the dataset in memory", Reason.NOT_READY),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Reason.NOT_READY),
        ("READONLY You can't write against a read only replica.", Reason.NOT_READY),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Reason.NOT_READY),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Reason.NOT_READY),
        ("CLUSTERDOWN The cluster is down", Reason.NOT_READY),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist on disk.", Reason.NOT_READY),
        ("OOM command not allowed when used memory > 'maxmemory'.", Reason.OVERLOAD),
        ("ERR max number of clients reached", Reason.OVERLOAD),
        ("NOPROTO unsupported protocol version", Reason.UNSUPPORTED),
        ("ERR unknown command 'FOO', with args beginning with: 'bar'", Reason.UNSUPPORTED),
        ("ERR Unknown subcommand or wrong number of arguments for 'FOO'. Try CLIENT HELP.", Reason.UNSUPPORTED),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Reason.CONFIG),
        ("MOVED 3999 127.0.0.1:6381", Reason.CONFIG),
        ("ERR syntax error", Reason.CONFIG),
        ("something of a script's own", Reason.CONFIG),
    ],
)
def test_a_refusal_has_the_reason_of_its_code_word(answer: str, reason: Reason) -> None:
    """Each word once, whichever class redis-py would have made of it."""
    error = translate(Refusal(answer), "PING on h:1")
    assert error is not None
    assert error.reason is reason
    assert str(error).startswith(f"PING on h:1: {answer.split(maxsplit=1)[0] if answer[:2].isupper() else 'ERR something'}")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (exceptions.ConnectionError("Connection closed by server."), Reason.RESET),
        (exceptions.InvalidResponse("Protocol Error: b'secret'"), Reason.PROTOCOL),
        (ConnectionRefusedError(111, "x"), Reason.REFUSED),
        (ConnectionResetError(104, "x"), Reason.RESET),
        (PermissionError(13, "x"), Reason.FORBIDDEN),
        (OSError(113, "x"), Reason.UNREACHABLE),
        (TimeoutError(), Reason.TIMEOUT),
    ],
)
def test_what_the_driver_and_the_system_raise_has_a_reason(error: Exception, reason: Reason) -> None:
    """In our words: theirs can hold an address, or what the server said."""
    told = translate(error, "x")
    assert told is not None
    assert (told.reason, "secret" in str(told)) == (reason, False)


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), KeyError("x"), RuntimeError("x")])
def test_our_own_bug_is_not_translated(error: Exception) -> None:
    """It is internal, and asks to be reported."""
    assert translate(error) is None
