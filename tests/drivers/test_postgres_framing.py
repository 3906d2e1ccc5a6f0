"""The guard before asyncpg's parser: what it lets through, and that no server can spin or fill us."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trustme

from exporter.demo.servers import HOST, Postgres
from exporter.drivers.dns import Resolver
from exporter.drivers.postgres import Budget, Endpoint, Login, connect
from exporter.drivers.postgres.framing import ANSWER_BYTES, GREETING_BYTES, SCRAM_ITERATIONS, Framing
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import Secret
from tests.faults import TEN_ZEROS, dripping, garbage, peer, saying, saying_over_tls
from tests.servers import nothing_left

LAG_SECONDS = 1.0  # a parser that spins never comes back; what is seen is below 5 ms


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


OK = message(b"R", bytes(4))
READY = message(b"Z", b"I")
GREETING = OK + message(b"S", b"server_version\x0015.18\x00") + READY


class Recorder(asyncio.Protocol):
    """Stands where asyncpg's protocol does."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: Exception | None = None

    def data_received(self, data: bytes) -> None:
        self.received.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc


class Wire(asyncio.Transport):
    """A transport that only knows whether it was aborted."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


def guarded() -> tuple[Framing, Recorder, Wire]:
    framing, recorder, wire = Framing("db:5432"), Recorder(), Wire()
    framing.connection_made(wire)
    framing.attach(recorder)
    return framing, recorder, wire


def refusal(*chunks: bytes) -> ProbeError:
    """The error with which the guard ends a connection that receives `chunks`."""
    framing, recorder, wire = guarded()
    for chunk in chunks:
        framing.data_received(chunk)
    assert wire.aborted
    assert isinstance(recorder.lost, ProbeError)
    return recorder.lost


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_whole_messages_pass_unchanged_however_they_are_cut(size: int) -> None:
    """TCP cuts where it likes; asyncpg gets every byte, in order, and only whole messages."""
    stream = GREETING + message(b"T", b"x" * 50) + message(b"D", b"y" * 300) * 3 + message(b"C", b"SELECT 3\x00") + READY
    framing, recorder, wire = guarded()
    for start in range(0, len(stream), size):
        framing.data_received(stream[start : start + size])
        assert not any(b"".join(recorder.received).endswith(cut) for cut in (b"T", b"D\x00"))
    assert b"".join(recorder.received) == stream
    assert not wire.aborted


@pytest.mark.parametrize("start", [b"", GREETING], ids=["greeting", "session"])
@pytest.mark.parametrize(
    "data",
    [TEN_ZEROS, b"\0", b"HTTP/1.1 400 Bad Request\r\n", message(b"G", b"\0"), b"S\x00\x00\x00\x03", b"S\xff\xff\xff\xff"],
    ids=["ten zeros", "one zero", "http", "copy", "length 3", "length 4 GiB"],
)
def test_what_is_not_the_protocol_ends_the_connection(start: bytes, data: bytes) -> None:
    """asyncpg would spin on the first of these, with the whole loop."""
    error = refusal(start + data)
    assert error.reason is Reason.PROTOCOL
    assert str(error).startswith("connect db:5432: not the PostgreSQL protocol: ")


def test_rows_before_the_login_are_refused() -> None:
    """Each stage has its messages: a row cannot answer a login."""
    assert refusal(message(b"D", b"\0\0")).reason is Reason.PROTOCOL


def test_a_login_without_end_is_refused() -> None:
    """A server that never gets to ReadyForQuery must not feed us for ever."""
    status = message(b"S", b"x" * 1000)
    assert refusal(*[status] * (GREETING_BYTES // len(status) + 1)).reason is Reason.PROTOCOL


def test_an_answer_is_bounded_and_the_next_one_counts_anew() -> None:
    """A mistaken SELECT of large columns is ended before it fills our memory, and is told so."""
    row, rows = message(b"D", bytes(1_000_000)), ANSWER_BYTES // 1_000_000
    framing, _, wire = guarded()
    framing.data_received(GREETING)
    for _ in range(3):
        for _ in range(rows):
            framing.data_received(row)
        framing.data_received(READY)
    assert not wire.aborted
    error = refusal(GREETING, *[row] * (rows + 1))
    assert (error.reason, error.retryable) == (Reason.CONFIG, False)
    assert str(error) == "an answer above 16 MiB; select only the rows and columns that become metrics"


@pytest.mark.parametrize("iterations", [SCRAM_ITERATIONS + 1, 2**31 - 1, 10**40])
def test_key_stretching_without_measure_is_refused(iterations: int) -> None:
    """PBKDF2 runs on the loop: two thousand million rounds would stop it for a quarter of an hour."""
    body = b"\x00\x00\x00\x0b" + f"r=nonce,s=c2FsdA==,i={iterations}".encode()
    assert refusal(message(b"R", body)).reason is Reason.PROTOCOL


def test_the_usual_key_stretching_passes() -> None:
    """PostgreSQL asks for 4096 rounds."""
    framing, recorder, wire = guarded()
    framing.data_received(message(b"R", b"\x00\x00\x00\x0br=nonce,s=c2FsdA==,i=4096"))
    assert recorder.received
    assert not wire.aborted


# --- real peers, real asyncpg -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def punctual(limit_seconds: float = LAG_SECONDS) -> AsyncIterator[None]:
    """Fails when the loop stood still for longer than the limit during the block."""
    loop = asyncio.get_running_loop()
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            worst = max(worst, loop.time() - before - 0.005)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        await asyncio.sleep(0.01)
        task.cancel()
    assert worst < limit_seconds, f"the loop stood still for {worst:.3f}s"


async def outcome(endpoint: Endpoint, seconds: float = 2.0) -> Reason:
    """Connects and reads within a deadline; the reason it failed with."""
    abort: list[Callable[[], None]] = []
    try:
        async with asyncio.timeout(seconds):
            session = await connect(Login(endpoint, "u", Secret("p"), "d"), Resolver(), abort.append)
            await session.ping()
            await session.read("q", "SELECT 1", Budget.of(seconds), most_rows=10)
    except ProbeError as error:
        return error.reason
    except TimeoutError:
        return Reason.TIMEOUT
    finally:
        for end in abort:
            end()
    raise AssertionError("it answered")


@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
async def test_ten_zeros_are_reason_protocol(sslmode: str) -> None:
    """The bytes that spin asyncpg, in plain: at once, with the loop on time."""
    async with nothing_left(), saying(TEN_ZEROS) as port, punctual():
        assert await outcome(Endpoint(HOST, port, sslmode)) is Reason.PROTOCOL


async def test_ten_zeros_within_tls_are_reason_protocol(tmp_path: Path) -> None:
    """asyncpg would set its protocol on the TLS transport itself, past a guard that sits on the plain one."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = Tls(ca_file=str(tmp_path / "ca.pem"))
    async with nothing_left(), saying_over_tls(TEN_ZEROS, authority) as port, punctual():
        assert await outcome(Endpoint(HOST, port, "verify-full", tls)) is Reason.PROTOCOL


async def test_zeros_that_drip_are_reason_protocol() -> None:
    """One byte is enough to see that it is no message."""
    async with nothing_left(), dripping(TEN_ZEROS, 0.01) as port, punctual():
        assert await outcome(Endpoint(HOST, port, "disable")) is Reason.PROTOCOL


async def test_bytes_beside_the_answer_to_the_tls_question_are_refused() -> None:
    """Whoever sits between could put plain text before the handshake (CVE-2021-23222)."""
    async with saying(b"S" + READY) as port:
        assert await outcome(Endpoint(HOST, port, "require")) is Reason.PROTOCOL


async def test_random_bytes_never_stop_the_loop() -> None:
    """Two hundred servers that send garbage: each is reason protocol."""
    reasons = []
    async with nothing_left(), punctual():
        for seed in range(200):
            async with saying(garbage(seed)) as port:
                reasons.append(await outcome(Endpoint(HOST, port, "disable")))
    assert set(reasons) == {Reason.PROTOCOL}


def nonsense(seed: int, kinds: bytes, count: int = 6) -> bytes:
    """Well-framed messages of known types with random bodies, now and then none."""
    random = Random(seed)
    return b"".join(message(bytes([random.choice(kinds)]), random.randbytes(random.choice((0, 1, 4, 9, 40)))) for _ in range(count))


@pytest.mark.parametrize("greeted", [False, True], ids=["at login", "in a session"])
async def test_well_framed_nonsense_never_stops_the_loop(greeted: bool) -> None:
    """The guard knows frames; what asyncpg makes of their contents must end in a reason, or in the caller's deadline."""

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seed = seeds.pop()
        await reader.read(1000)
        if greeted:
            writer.write(GREETING)
            await reader.read(1000)
            writer.write(nonsense(seed, b"SZENATDCI123tns") + READY)
        else:
            writer.write(nonsense(seed, b"RKSZENv"))
        await reader.read()

    seeds = list(range(200))
    async with nothing_left(), peer(lie) as port, punctual():
        endpoint = Endpoint(HOST, port, "disable")
        reasons = await asyncio.gather(*(outcome(endpoint, 0.5) for _ in range(200)))
    assert set(reasons) <= {Reason.PROTOCOL, Reason.RESET, Reason.TIMEOUT, Reason.CONFIG, Reason.UNSUPPORTED, Reason.AUTH}


async def test_a_real_server_passes(postgres_server: Postgres) -> None:
    """Every message of a login and of a large answer, cut as the kernel likes."""
    login = Login(Endpoint(HOST, postgres_server.port), "postgres", Secret(postgres_server.password), "postgres")
    session = await connect(login, Resolver(), lambda abort: None)
    sql = "SELECT i, repeat('x', i % 2000) AS filler FROM generate_series(1, 8000) AS g(i)"
    answer = await session.read("q", sql, Budget.of(20), most_rows=10_000)
    session.abort()
    assert not isinstance(answer, ProbeError)
    assert [len(str(filler)) for _, filler in answer.rows] == [i % 2000 for i in range(1, 8001)]
