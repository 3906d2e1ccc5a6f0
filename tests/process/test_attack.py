"""An exporter as users run it, under clients that mean it no good: the others are answered, and nothing stays behind.

One process stands through all of it, with 1024 files to open, as most systems give; while an attack lasts, /livez, /health and
/metrics are asked for in turn, each on a connection of its own.
"""

import asyncio
import http.client
import random
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from exporter.demo.servers import HOST
from tests.conftest import Count
from tests.faults import saying
from tests.fuzzed import may_be_503, requests
from tests.malformed import CASES, MARK
from tests.raw_http import Reply, Wire, says, wire
from tests.running import Running
from tests.servers import closed_port, eventually, eventually_now, open_fds

PROBES = 60
FILES = 1024
ASKED = ("/livez", "/health", "/metrics")
SLOWEST_SECONDS = 2.0
"""For any answer to those who ask meanwhile. Seen: 30 to 130 ms, and 430 ms with five times more work than cores."""
GROWN_BYTES = 4 * 1024 * 1024
"""Resident, in the last of four rounds; one MiB is seen, either way."""


class Meanwhile(threading.Thread):
    """Asks as kubelet and Prometheus do, until told to stop; keeps how long each answer took, and what was no answer."""

    def __init__(self, port: int) -> None:
        super().__init__(name="meanwhile")
        self._port = port
        self._ending = threading.Event()
        self.seconds: list[float] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self._ending.wait(0.01):
            for path in ASKED:
                began = time.perf_counter()
                try:
                    code = self._ask(path)
                except (OSError, http.client.HTTPException) as error:
                    code = 0
                    self.wrong.append(f"{path}: {error!r}")
                self.seconds.append(time.perf_counter() - began)
                if code not in ((200, 503) if path == "/health" else (200,)):
                    self.wrong.append(f"{path}: {code}")

    def _ask(self, path: str) -> int:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        return answer.status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        self.join()


class Attacked:
    """The exporter, and what it is made of before and after."""

    def __init__(self, exporter: Running) -> None:
        self.exporter = exporter
        self.port = int(exporter.url.rpartition(":")[2])
        self._pid = exporter.process.pid

    @property
    def sockets(self) -> int:
        return open_fds(self._pid)["socket"]

    @property
    def threads(self) -> int:
        return len(list(Path(f"/proc/{self._pid}/task").iterdir()))

    @property
    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self._pid}/statm").read_text().split()[1]) * resource.getpagesize()

    @asynccontextmanager
    async def withstands(self, count: Count) -> AsyncIterator[None]:
        """Whatever happens in the block: the others are answered in time, and afterwards no socket and no thread is left of it."""
        sockets, threads = self.sockets, self.threads
        with Meanwhile(self.port) as meanwhile:
            yield
        slowest = max(meanwhile.seconds)
        print(f"{len(meanwhile.seconds)} answers meanwhile, the slowest in {slowest * 1000:.0f} ms")
        good = not meanwhile.wrong and slowest < SLOWEST_SECONDS
        count("attacks withstood", int(good), 1)
        assert meanwhile.wrong == []
        assert slowest < SLOWEST_SECONDS
        await eventually(lambda: self.sockets <= sockets and self.threads <= threads, 5)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """All probes fail, as fast as can be: their targets are no part of this. In the end, not a word of it is in the log."""
    with closed_port() as port:
        probes = "".join(f"  p{number}: {{type: redis, url: 'redis://{HOST}:{port}'}}\n" for number in range(PROBES))
        configuration = f"defaults: {{interval: 60s, failure_threshold: 1}}\nprobes:\n{probes}"
        with Running(tmp_path_factory.mktemp("attacked"), configuration) as exporter:
            resource.prlimit(exporter.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
            eventually_now(lambda: exporter.samples('sidecar_health_status{status="unhealthy"}').popitem()[1] == 1, 20)
            attacked = Attacked(exporter)
            asyncio.run(says(attacked.port, b"GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n"))  # starts the gzip thread
            yield attacked
            said = exporter.said
            assert exporter.terminate(10) == 0
    assert MARK.decode() not in said
    assert "Traceback" not in said
    assert "ERROR" not in said
    assert len(said.splitlines()) < 3 * PROBES


@pytest.fixture(scope="module", autouse=True)
def _many_files() -> Iterator[None]:
    """The attackers need more of them than most systems give at first."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(4096, before[1])), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def at_once(clients: int, client: Callable[[int], Awaitable[object]]) -> list[object]:
    """So many of them; ends when all have. What ends a client's connection is none of its business."""

    async def one(number: int) -> object:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            return await client(number)
        return None

    return await asyncio.gather(*(one(number) for number in range(clients)))


def a_get(path: bytes, version: bytes = b"1.1") -> bytes:
    return b"GET %s HTTP/%s\r\nHost: x\r\n\r\n" % (path, version)


# --- the attacks --------------------------------------------------------------------------------------------------------


async def malformed(attacked: Attacked) -> None:
    """Everything that is no request, and what becomes of proper ones and improper ones when bytes of them are changed."""
    chance = random.Random(7)
    damaged = [_damaged(case.request, chance) for case in CASES for _ in range(4)]
    sent = [*(case.request for case in CASES), *damaged, *(chance.randbytes(200) for _ in range(100))]
    answers = await at_once(len(sent), lambda number: says(attacked.port, sent[number], half_closed=True))
    for request, answer in zip(sent, answers, strict=True):
        assert isinstance(answer, bytes)
        assert MARK not in answer, request
        assert b"aiohttp" not in answer, request
        assert answer[9:10] in (b"", b"1", b"2", b"4") or answer[9:12] == b"503", (request, answer)


def _damaged(request: bytes, chance: random.Random) -> bytes:
    out = bytearray(request)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(min(len(out), 200))
        out[place : place + chance.randint(0, 2)] = chance.choice((b"", b"\r\n", b"\0", b"\xff", b" ", b":", chance.randbytes(1)))
    return bytes(out)


async def huge(attacked: Attacked) -> None:
    """A line, a header, a head and bodies that do not end, each from four clients, as fast as they can."""
    chunk = b"a" * 65536
    beginnings = (
        (b"GET /", chunk),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", chunk),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X: some bytes of a header\r\n" * 2000),
        (b"", b"\r\n" * 30000),
        (b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999\r\n\r\n", chunk),
        (b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n%s\r\n" % chunk),
    )

    async def client(number: int) -> None:
        beginning, more = beginnings[number % len(beginnings)]
        async with wire(attacked.port) as connection, asyncio.timeout(10):
            await connection.send(beginning)
            while not connection.reader.at_eof():
                await connection.send(more)

    await at_once(4 * len(beginnings), client)


async def slow(attacked: Attacked) -> None:
    """A byte every 0.1 s; half of the clients come to an end with it and are answered, the others do not."""
    whole = a_get(b"/livez", b"1.0")

    async def client(number: int) -> bytes:
        async with wire(attacked.port) as connection:
            for place in range(len(whole) if number % 2 else 15):
                await connection.send(whole[place : place + 1])
                await asyncio.sleep(0.1)
            return await connection.rest() if number % 2 else b""

    answers = await at_once(200, client)
    assert sum(isinstance(answer, bytes) and answer.endswith(b"\r\n\r\nok") for answer in answers) == 100


async def deaf(attacked: Attacked) -> None:
    """A hundred clients that ask for /metrics again and again, and read nothing."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(wire(attacked.port, 4096)) for _ in range(100)]
        for client in clients:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.writer.write(a_get(b"/metrics") * 50)
        await asyncio.sleep(2)


async def pipelined(attacked: Attacked) -> None:
    """Twenty questions in one packet have twenty answers, in their order; so have two hundred."""
    expected = {b"/livez": 200, b"/nothing": 404, b"/health": 503, b"/-/reload": 405}

    async def client(number: int) -> None:
        paths = list(expected) * (50 if number == 0 else 5)
        async with wire(attacked.port) as connection:
            await connection.send(b"".join(map(a_get, paths)))
            assert [(await connection.reply()).code for _ in paths] == [expected[path] for path in paths]

    await at_once(50, client)


async def half_closed(attacked: Attacked) -> None:
    """Clients that end their side with their question, as `nc -N` does; and those that end it before."""
    requests = (a_get(b"/livez", b"1.0"), a_get(b"/livez"), a_get(b"/livez")[:-3], b"")
    answers = await at_once(400, lambda number: says(attacked.port, requests[number % 4], half_closed=True))
    assert [isinstance(answer, bytes) and answer.endswith(b"ok") for answer in answers] == [True, True, False, False] * 100


async def idle(attacked: Attacked) -> None:
    """Two thousand connections that say nothing, half of them after one question."""
    async with AsyncExitStack() as stack:
        for number in range(2000):
            connection = await stack.enter_async_context(wire(attacked.port))
            if number % 2:
                connection.writer.write(a_get(b"/livez"))
        assert attacked.sockets < FILES
        connection.writer.write(a_get(b"/livez"))
        assert (await connection.reply()).code == 200


async def fuzzed(attacked: Attacked, number: int = 2000, seed: int = 7) -> None:
    """So many questions that could be meant, with any verb, path, query and headers, on eight connections that are kept."""
    asked = list(requests(number, seed))

    async def client(first: int) -> None:
        mine = asked[first::8]
        while mine:
            async with wire(attacked.port) as connection:
                await _ask_all(connection, mine)

    await asyncio.gather(*(client(number) for number in range(8)))


async def _ask_all(connection: Wire, mine: list[bytes]) -> None:
    """Asks until the server ends the connection, as it may after each; a question without an answer fails."""
    while mine:
        request = mine.pop()
        await connection.send(request)
        reply = await connection.reply(bodiless=request.startswith(b"HEAD "))
        while reply.code == 100:
            reply = await connection.reply(bodiless=request.startswith(b"HEAD "))
        _judge(request, reply)
        if reply.headers.get("connection") == "close" or b" HTTP/1.0\r\n" in request:
            return


def _judge(request: bytes, reply: Reply) -> None:
    said = (str(reply.headers) + reply.body.decode("latin-1")).encode("latin-1")
    assert reply.code < 500 or (reply.code == 503 and may_be_503(request)), (request, reply)
    assert MARK not in said, (request, reply)
    assert reply.headers["server"] == "sidecar-exporter", (request, reply)
    assert "x-injected" not in reply.headers, (request, reply)


ATTACKS = (malformed, huge, slow, deaf, pipelined, half_closed, idle, fuzzed)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_others_are_answered_and_nothing_stays(
    attack: Callable[[Attacked], Awaitable[None]], attacked: Attacked, count: Count
) -> None:
    """The port is open to whoever reaches it, and liveness hangs on it."""
    async with attacked.withstands(count):
        await attack(attacked)


async def test_it_does_not_grow(attacked: Attacked) -> None:
    """What all but the last round of everything needed is there for that: memory that is kept is no leak."""
    resident = []
    for seed in range(4):
        await asyncio.gather(malformed(attacked), huge(attacked), pipelined(attacked), fuzzed(attacked, 500, seed))
        await idle(attacked)
        resident.append(attacked.resident_bytes)
    print(f"resident after each round: {', '.join(f'{size / 2**20:.1f}' for size in resident)} MiB")
    assert resident[-1] - resident[-2] < GROWN_BYTES


async def test_with_few_files_the_targets_keep_their_half(tmp_path: Path) -> None:
    """`ulimit -n 128` and two hundred clients: without a file for its socket, every probe would say that its target is down."""
    program = ("sh", "-c", f'ulimit -n 128; exec {sys.executable} -m exporter "$@"', "sh")
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    async with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port, AsyncExitStack() as stack:
        configuration = f"probes:\n  app: {{type: http, url: 'http://{HOST}:{port}/', interval: 100ms}}\n"
        exporter = stack.enter_context(Running(tmp_path, configuration, environment, program))
        for _ in range(200):
            await stack.enter_async_context(wire(Attacked(exporter).port))
        before = await asyncio.to_thread(_checks, exporter, "success")
        await eventually(lambda: _more_checks(exporter, before + 10), 20)
        assert await asyncio.to_thread(_checks, exporter, "failure") == 0
        assert "ERROR" not in exporter.said


def _checks(exporter: Running, outcome: str) -> float:
    return exporter.samples("sidecar_probe_runs_total")[f'sidecar_probe_runs_total{{probe="app",outcome="{outcome}"}}']


async def _more_checks(exporter: Running, than: float) -> bool:
    return await asyncio.to_thread(_checks, exporter, "success") > than
