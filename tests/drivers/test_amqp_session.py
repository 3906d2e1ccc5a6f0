"""Sessions and channels on a real broker: what each refusal means, what is heard, and that nothing stays behind."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiormq
import pytest
import trustme

from exporter.demo.servers import HOST, RabbitMQ
from exporter.demo.servers.rabbitmq import User
from exporter.drivers.amqp import Channel, Endpoint, Login, Message, NotFound, Outgoing, Session, connect, translate
from exporter.drivers.amqp.errors import Refusal, Stage
from exporter.drivers.amqp.framing import Frames
from exporter.drivers.dns import Resolver
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import Secret
from tests.brokers import HOMELESS, NEIGHBOUR, NOBODY, OTHER_VHOST, OURSELVES, QUEUE
from tests.faults import Proxy, peer, silent
from tests.servers import eventually, nothing_left


@pytest.fixture(autouse=True)
async def _nothing_stays(rabbitmq_server: RabbitMQ) -> AsyncIterator[None]:
    async with nothing_left():
        yield


def login_of(server: RabbitMQ, user: User | None = None, *, port: int | None = None, **parts: object) -> Login:
    """A login on the worker's broker; `parts` are those of Login."""
    name, word = (server.user, server.password) if user is None else (user.name, user.password)
    login = Login(Endpoint(HOST, port or server.port), name, Secret(word))
    return replace(login, **parts)  # type: ignore[arg-type]  # parts of a Login


def _hold_nothing(_abort: Callable[[], None]) -> None:
    """For tests that end what they open themselves."""


@asynccontextmanager
async def session_of(login: Login) -> AsyncIterator[Session]:
    session = await connect(login, Resolver(), _hold_nothing)
    try:
        yield session
    finally:
        session.abort()


async def refused(login: Login) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await connect(login, Resolver(), _hold_nothing)
    return caught.value


def own_name() -> str:
    return f"exporter.test.{secrets.token_hex(4)}"


async def own_queue(channel: Channel, **options: bool) -> tuple[str, "asyncio.Queue[Message]"]:
    """An exclusive queue, and what arrives in it."""
    arrived: asyncio.Queue[Message] = asyncio.Queue()
    name = await channel.declare_queue(own_name(), exclusive=True, auto_delete=True)
    await channel.consume(name, arrived.put_nowait, prefetch=10 if options.get("acknowledged") else 0)
    return name, arrived


# --- login ------------------------------------------------------------------------------------------------------------------


async def test_a_session_tells_what_the_broker_says_of_itself(rabbitmq_server: RabbitMQ) -> None:
    """The facts behind a health body."""
    async with session_of(login_of(rabbitmq_server)) as session:
        assert session.server.product == "RabbitMQ"
        assert session.server.version.startswith("3.")
        assert session.server.cluster
        assert (session.alive, session.encrypted, session.blocked, session.vhost) == (True, False, None, "/")


async def test_each_refusal_of_a_login_has_its_reason(rabbitmq_server: RabbitMQ) -> None:
    """The password, the virtual host's name and a right on it are three different repairs."""
    wrong = login_of(rabbitmq_server, replace(HOMELESS, password="another-canary"))
    error = await refused(wrong)
    assert error.reason is Reason.AUTH
    assert "another-canary" not in f"{error}"
    unknown = await refused(login_of(rabbitmq_server, vhost="nowhere"))
    assert unknown.reason is Reason.FORBIDDEN
    assert unknown.message == f"open vhost nowhere on {HOST}:{rabbitmq_server.port}: NOT_ALLOWED - vhost nowhere not found"
    assert (await refused(login_of(rabbitmq_server, HOMELESS))).reason is Reason.FORBIDDEN


async def test_a_virtual_host_may_have_any_name(rabbitmq_server: RabbitMQ) -> None:
    """A slash in it is data, not a path."""
    nobody = await refused(login_of(rabbitmq_server, NOBODY, vhost=OTHER_VHOST))
    assert nobody.reason is Reason.FORBIDDEN
    async with session_of(login_of(rabbitmq_server, NEIGHBOUR, vhost=OTHER_VHOST)) as session:
        channel = await session.channel()
        with pytest.raises(NotFound):
            await channel.depth(QUEUE)


async def test_tls_is_verified(rabbitmq_server: RabbitMQ, broker_authority: trustme.CA, tmp_path: Path) -> None:
    """By the authority and the name, the name of the configuration if it gives one."""
    ca_file = str(tmp_path / "ca.pem")
    broker_authority.cert_pem.write_to_path(ca_file)

    def secured(**parts: object) -> Login:
        return login_of(rabbitmq_server, endpoint=Endpoint(HOST, rabbitmq_server.tls_port, Tls(**parts)))  # type: ignore[arg-type]

    for good in (secured(ca_file=ca_file), secured(ca_file=ca_file, server_name="localhost"), secured(insecure_skip_verify=True)):
        async with session_of(good) as session:
            assert session.encrypted
            assert (await (await session.channel()).depth(QUEUE)).messages_ready == 0
    for bad in (secured(), secured(ca_file=ca_file, server_name="elsewhere.test")):
        assert (await refused(bad)).reason is Reason.TLS


async def test_plain_words_to_a_port_with_tls_name_the_cure(rabbitmq_server: RabbitMQ) -> None:
    """And TLS to a plain port is a failure of TLS."""
    assert "write amqps://" in (await refused(login_of(rabbitmq_server, port=rabbitmq_server.tls_port))).message
    secured = login_of(rabbitmq_server, endpoint=Endpoint(HOST, rabbitmq_server.port, Tls()))
    assert (await refused(secured)).reason is Reason.TLS


async def test_a_missing_ca_file_is_named_before_anything_is_dialled(tmp_path: Path) -> None:
    """It is the configuration that is wrong, not the broker."""
    error = await refused(Login(Endpoint(HOST, 1, Tls(ca_file=str(tmp_path / "none.pem")))))
    assert error.reason is Reason.CONFIG
    assert "none.pem" in error.message


# --- channels ---------------------------------------------------------------------------------------------------------------


async def test_a_message_comes_back_as_it_was_sent(rabbitmq_server: RabbitMQ) -> None:
    """Celery's events and replies need their headers, types and tags."""
    async with session_of(login_of(rabbitmq_server)) as session:
        channel = await session.channel(confirms=True)
        name, arrived = await own_queue(channel, acknowledged=True)
        sent = Outgoing(b'{"x": 1}', "application/json", "utf-8", {"hostname": "w1@h", "clock": 1}, expires_seconds=5)
        await channel.publish(sent, routing_key=name, mandatory=True)
        message = await arrived.get()
        assert (message.body, message.content_type, message.content_encoding) == (sent.body, "application/json", "utf-8")
        assert (message.headers, message.routing_key, message.exchange) == ({"hostname": "w1@h", "clock": 1}, name, "")
        assert (message.delivery_tag, message.redelivered) == (1, False)
        await channel.acknowledge(message.delivery_tag, multiple=True)


async def test_a_queue_tells_what_is_ready_and_who_consumes(rabbitmq_server: RabbitMQ) -> None:
    """From a passive declare, by a login that may do nothing at all."""
    async with session_of(login_of(rabbitmq_server)) as session:
        channel = await session.channel(confirms=True)
        name = await channel.declare_queue(own_name(), auto_delete=True)
        for _ in range(3):
            await channel.publish(Outgoing(b"x"), routing_key=name)
        async with session_of(login_of(rabbitmq_server, NOBODY)) as looking:
            depth = await (await looking.channel()).depth(name)
            assert (depth.messages_ready, depth.consumers) == (3, 0)
        await channel.consume(name, lambda message: None)
        depth = await channel.depth(name)
        assert (depth.messages_ready, depth.consumers) == (0, 1)


async def test_a_topic_exchange_carries_to_what_is_bound(rabbitmq_server: RabbitMQ) -> None:
    """What Celery's events come by; found passively, made only where it is missing."""
    async with session_of(login_of(rabbitmq_server)) as session:
        exchange = own_name()
        with pytest.raises(NotFound):
            await (await session.channel()).find_exchange(exchange)
        channel = await session.channel(confirms=True)
        await channel.find_exchange("amq.topic")
        name, arrived = await own_queue(channel)
        await channel.bind(name, "amq.topic", f"{exchange}.#")
        await channel.publish(Outgoing(b"x"), exchange="amq.topic", routing_key=f"{exchange}.sent", mandatory=True)
        assert (await arrived.get()).routing_key == f"{exchange}.sent"


async def test_each_refusal_of_an_operation_has_its_reason(rabbitmq_server: RabbitMQ) -> None:
    """The broker closes the channel with its first refusal; the session goes on."""
    async with session_of(login_of(rabbitmq_server)) as owner, session_of(login_of(rabbitmq_server, NOBODY)) as nobody:
        name, _ = await own_queue(await owner.channel())
        channel = await owner.channel()
        with pytest.raises(NotFound) as missing:
            await channel.depth("nowhere")
        assert missing.value.message == f"queue nowhere on {HOST}:{rabbitmq_server.port}: NOT_FOUND - no queue … in vhost …"
        assert not channel.alive
        for session, queue, reason in (
            (nobody, own_name(), Reason.FORBIDDEN),  # ACCESS_REFUSED
            (nobody, name, Reason.FORBIDDEN),
            (owner, QUEUE, Reason.CONFIG),  # PRECONDITION_FAILED: it is durable
        ):
            with pytest.raises(ProbeError) as caught:
                await (await session.channel()).declare_queue(queue)
            assert caught.value.reason is reason
            assert session.alive


async def test_an_exclusive_queue_of_another_connection_is_forbidden(rabbitmq_server: RabbitMQ) -> None:
    """RESOURCE_LOCKED, whatever rights one has."""
    async with session_of(login_of(rabbitmq_server)) as owner, session_of(login_of(rabbitmq_server)) as other:
        name, _ = await own_queue(await owner.channel())
        with pytest.raises(ProbeError, match="RESOURCE_LOCKED") as caught:
            await (await other.channel()).depth(name)
        assert caught.value.reason is Reason.FORBIDDEN


async def test_a_mandatory_message_that_nobody_takes_comes_back(rabbitmq_server: RabbitMQ) -> None:
    """Else it would vanish, confirmed."""
    async with session_of(login_of(rabbitmq_server)) as session:
        channel = await session.channel(confirms=True)
        with pytest.raises(ProbeError, match="no queue takes it") as caught:
            await channel.publish(Outgoing(b"x"), routing_key=own_name(), mandatory=True)
        assert caught.value.reason is Reason.ASSERTION
        assert channel.alive


async def test_the_pattern_of_our_names_is_right_enough(rabbitmq_server: RabbitMQ) -> None:
    """One grant on `exporter.` must do for all that we do."""
    async with session_of(login_of(rabbitmq_server, OURSELVES)) as session:
        channel = await session.channel(confirms=True)
        name, arrived = await own_queue(channel)
        await channel.publish(Outgoing(b"x"), routing_key=name, mandatory=True)
        assert (await arrived.get()).body == b"x"
        await channel.delete_queue(name)


# --- the end ----------------------------------------------------------------------------------------------------------------


async def test_an_aborted_session_ends_whoever_waits_on_it(rabbitmq_server: RabbitMQ) -> None:
    """With a reason, and at once; a later call is told the same."""
    async with session_of(login_of(rabbitmq_server)) as session:
        channel = await session.channel()
        waiting = asyncio.create_task(session.arrival("an answer", asyncio.get_running_loop().create_future()))
        await asyncio.sleep(0)
        session.abort()
        session.abort()
        with pytest.raises(ProbeError) as caught:
            await waiting
        assert caught.value.reason is Reason.RESET
        await asyncio.wait_for(session.wait_ended(), 5)
        assert not session.alive
        for use in (channel.depth(QUEUE), session.channel(), channel.publish(Outgoing(b"x"), routing_key=QUEUE)):
            with pytest.raises(ProbeError) as caught:
                await use
            assert caught.value.reason is Reason.RESET


async def test_a_connection_cut_under_an_operation_is_a_reset(rabbitmq_server: RabbitMQ) -> None:
    """Not a cancellation, which is what aiormq makes of some ends."""
    async with Proxy(rabbitmq_server.port) as proxy, session_of(login_of(rabbitmq_server, port=proxy.port)) as session:
        channel = await session.channel(confirms=True)
        proxy.stall()
        asks = [asyncio.create_task(work) for work in (channel.depth(QUEUE), channel.publish(Outgoing(b"x"), routing_key=QUEUE))]
        await asyncio.sleep(0)
        proxy.reset()
        for ask in asks:
            with pytest.raises(ProbeError) as caught:
                await ask
            assert caught.value.reason is Reason.RESET


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("tls", [None, Tls()], ids=["in the login", "in the handshake of TLS"])
async def test_what_is_held_ends_a_connect_that_hangs(cancelled: bool, tls: Tls | None) -> None:
    """At every step: the engine aborts first, and cancels then."""
    async with silent() as port:
        held: list[Callable[[], None]] = []
        task = asyncio.create_task(connect(Login(Endpoint(HOST, port, tls)), Resolver(), held.append))
        await eventually(lambda: len(held) == (1 if tls else 2), 5)
        held[-1]()
        if cancelled:
            task.cancel()
        await asyncio.wait((task,), timeout=5)
        assert task.done()
        assert cancelled is task.cancelled() or isinstance(task.exception(), ProbeError)


async def test_the_broker_logs_no_warning_of_an_end_in_good_order(rabbitmq_server: RabbitMQ) -> None:
    """Our comings and goings are not the operator's worry."""
    before = rabbitmq_server.log.read_text()
    for _ in range(10):
        async with session_of(login_of(rabbitmq_server)) as session:
            await own_queue(await session.channel(confirms=True))
            await session.close()
            assert not session.alive

    def said() -> str:
        return rabbitmq_server.log.read_text()[len(before) :]

    await eventually(lambda: said().count(" closing AMQP connection") == 10, 5)
    assert "unexpectedly" not in said()


async def test_an_end_in_good_order_is_not_waited_for_in_vain(rabbitmq_server: RabbitMQ) -> None:
    """A broker that is frozen must not hold up our own end."""
    async with Proxy(rabbitmq_server.port) as proxy, session_of(login_of(rabbitmq_server, port=proxy.port)) as session:
        proxy.stall()
        await asyncio.wait_for(session.close(), 2)
        assert not session.alive


async def test_nothing_is_said_in_our_log_of_a_lost_connection(rabbitmq_server: RabbitMQ, caplog: pytest.LogCaptureFixture) -> None:
    """aiormq would add a traceback for each; asyncio an exception that nobody took."""
    with caplog.at_level(logging.INFO):
        async with Proxy(rabbitmq_server.port) as proxy, session_of(login_of(rabbitmq_server, port=proxy.port)) as session:
            await own_queue(await session.channel(confirms=True))
            with pytest.raises(NotFound):
                await (await session.channel()).depth("nowhere")
            proxy.reset()
            await session.wait_ended()
        async with nothing_left():
            pass
    assert caplog.messages == []


async def test_a_hostile_greeting_is_read_in_no_time() -> None:
    """A table within a table within a table: well framed, and as deep as the greeting's length allows."""
    depth = 3000
    array = b""
    for _ in range(depth):
        array = b"A" + len(array).to_bytes(4, "big") + array
    table = b"\x01x" + array
    body = b"\x00\x0a\x00\x0a\x00\x09" + len(table).to_bytes(4, "big") + table + b"\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US"

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x01\x00\x00" + len(body).to_bytes(4, "big") + body + b"\xce")
        await reader.read()

    async with peer(greet) as port:
        began = asyncio.get_running_loop().time()
        error = await refused(Login(Endpoint(HOST, port)))
        assert asyncio.get_running_loop().time() - began < 2
    assert error.reason is Reason.PROTOCOL


# --- translation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (aiormq.exceptions.ChannelLockedResource("RESOURCE_LOCKED"), Reason.FORBIDDEN),
        (aiormq.exceptions.ChannelClosed(506, "RESOURCE_ERROR - too many"), Reason.OVERLOAD),
        (aiormq.exceptions.ChannelClosed(530, "NOT_ALLOWED - vhost connection limit (1) is reached"), Reason.OVERLOAD),
        (aiormq.exceptions.ChannelClosed(540, "NOT_IMPLEMENTED"), Reason.UNSUPPORTED),
        (aiormq.exceptions.ChannelClosed(541, "INTERNAL_ERROR"), Reason.NOT_READY),
        (aiormq.exceptions.AuthenticationError("EXTERNAL", "PLAIN"), Reason.UNSUPPORTED),
        (aiormq.exceptions.ProbableAuthenticationError("ACCESS_REFUSED"), Reason.AUTH),
        (aiormq.exceptions.InvalidFrameError("x"), Reason.PROTOCOL),
        (ConnectionRefusedError(111, "x"), Reason.REFUSED),
        (TimeoutError(), Reason.TIMEOUT),
        (OSError(113, "x"), Reason.UNREACHABLE),
    ],
)
def test_exceptions_become_reasons(error: Exception, reason: Reason) -> None:
    """Those that the tests above do not bring out of a real broker."""
    told = translate(error, "look")
    assert told is not None
    assert told.reason is reason
    assert told.message.startswith("look: ")


@pytest.mark.parametrize(
    ("stage", "code", "text", "reason"),
    [
        (Stage.LOGIN, 403, "ACCESS_REFUSED - Login was refused", Reason.AUTH),
        (Stage.OPENING, 403, "ACCESS_REFUSED - access to vhost refused", Reason.FORBIDDEN),
        (Stage.OPENING, 402, "INVALID_PATH - unknown vhost", Reason.FORBIDDEN),
        (Stage.OPENING, 530, "NOT_ALLOWED - access to vhost '/' refused: vhost connection limit (9) is reached", Reason.OVERLOAD),
        (Stage.OPENING, 541, "INTERNAL_ERROR - access to vhost '/' refused: vhost '/' is down", Reason.NOT_READY),
        (Stage.OPEN, 320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", Reason.NOT_READY),
        (Stage.OPEN, 501, "FRAME_ERROR", Reason.PROTOCOL),
        (Stage.OPEN, 506, "RESOURCE_ERROR", Reason.OVERLOAD),
        (Stage.OPEN, 999, "of a later version", Reason.RESET),
    ],
)
def test_the_end_of_a_connection_has_the_brokers_own_reason(stage: Stage, code: int, text: str, reason: Reason) -> None:
    """It counts more than what aiormq makes of it."""
    frames = Frames("127.0.0.1:5672")
    frames.stage, frames.refusal = stage, Refusal(code, text)
    told = translate(ConnectionResetError(), "look", frames)
    assert told is not None
    assert told.reason is reason


def test_our_own_mistakes_stay_ours() -> None:
    """They are internal, and told with their place."""
    assert translate(ValueError("ours")) is None
    assert translate(RuntimeError("ours")) is None
