"""The HTTP driver against peers and names that misbehave, and what is left when it is stopped."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from exporter import phase
from exporter.demo.servers import HOST
from exporter.drivers.http import Hop
from exporter.drivers.kept import Lease
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import CHECK, Reason
from tests.faults import TEN_ZEROS, black_hole, dripping, garbage, peer, resetting, saying, saying_over_tls, silent
from tests.http_client import HEAD, failure, fetch
from tests.http_targets import Certificates
from tests.servers import closed_port, eventually, nothing_left, open_fds

# faults of the peer


async def test_refused() -> None:
    """Nothing listens."""
    with closed_port() as port:
        error = await failure(f"http://user:pw@{HOST}:{port}/health?key=hunter2")
    assert (error.reason, error.message, error.retryable) == (Reason.REFUSED, f"connect {HOST}:{port}: connection refused", True)


async def test_unreachable() -> None:
    """No route: the kernel says so at once for TCP to a broadcast address, and sends nothing."""
    error = await failure("http://127.255.255.255:9/")
    assert (error.reason, error.message) == (Reason.UNREACHABLE, "connect 127.255.255.255:9: network is unreachable")


async def test_reset() -> None:
    """A crash while it reads our request; and it is asked once, not twice as aiohttp would."""
    connections = 0

    async def crash(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readexactly(1)
        writer.transport.abort()

    async with nothing_left(), peer(crash) as port:
        error = await failure(f"http://{HOST}:{port}/")
    assert error.reason is Reason.RESET
    assert connections == 1


async def test_reset_at_once() -> None:
    """RST as the answer to the connection itself."""
    async with nothing_left(), resetting() as port:
        assert (await failure(f"http://{HOST}:{port}/")).reason is Reason.RESET


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (TEN_ZEROS, "the answer is not valid HTTP"),
        (garbage(1), "the answer is not valid HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not valid HTTP"),
        (b"-ERR unknown command\r\n", "the answer is not valid HTTP"),
        (HEAD + b"X-A: " + b"hunter2" * 2000 + b"\r\n\r\n", "a line of the answer's header is too long"),
        (HEAD + b"".join(b"X-%d: hunter2\r\n" % n for n in range(500)) + b"\r\n", "the answer is not valid HTTP"),
        (HEAD + b"X\0: hunter2\r\n\r\n", "the answer is not valid HTTP"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "the answer is not valid HTTP"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhunter2", "the answer is not valid HTTP"),
    ],
)
async def test_what_is_not_http_is_protocol(sent: bytes, what: str) -> None:
    """Another service on the port, or a broken one: told at once, with the loop free, and without a byte of what it said."""
    async with nothing_left(), saying(sent) as port:
        error = await failure(f"http://{HOST}:{port}/", seconds=5)
    assert (error.reason, error.message) == (Reason.PROTOCOL, f"GET {HOST}:{port}/: {what}")


async def test_chunks_that_turn_to_garbage_end_the_body() -> None:
    """aiohttp alone would wait for more until the deadline."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)  # so that the body is being read by now
        writer.write(b"zz\r\n")
        await reader.read()

    async with nothing_left(), peer(break_off) as port:
        error = await failure(f"http://{HOST}:{port}/", seconds=5)
    assert (error.reason, error.message) == (
        Reason.PROTOCOL,
        f"GET {HOST}:{port}/, reading the body: the answer is not valid HTTP",
    )


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", ": connection closed before an answer"),
        (HEAD + b"X-A: b", ": connection closed before an answer"),
        (HEAD + b"Content-Length: 9\r\n\r\nhi", ", reading the body: connection closed in the middle of the body"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhi", ", reading the body: connection closed in the middle of the body"),
    ],
)
async def test_a_connection_closed_too_early_is_reset(sent: bytes, what: str) -> None:
    """A worker that was killed: how far it got is worth knowing."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.write_eof()
        await reader.read()

    trail: list[Hop] = []
    async with nothing_left(), peer(close) as port:
        error = await failure(f"http://{HOST}:{port}/", trail=trail)
    assert (error.reason, error.message) == (Reason.RESET, f"GET {HOST}:{port}/{what}")
    assert "transfer" not in trail[0].seconds


async def test_a_hundred_failing_checks_leave_nothing() -> None:
    """A target that is down for days must not eat our file descriptors."""
    async with nothing_left(), resetting() as reset, saying(TEN_ZEROS) as zeros:
        with closed_port() as closed:
            for _ in range(34):
                for port, scheme in ((reset, "http"), (zeros, "https"), (closed, "http")):
                    await failure(f"{scheme}://{HOST}:{port}/", tls=Tls(insecure_skip_verify=True))


# names


async def test_a_name_that_does_not_exist_is_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection was tried."""

    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await failure("http://nowhere.invalid/?key=hunter2")
    assert (error.reason, error.message) == (Reason.DNS, "resolve nowhere.invalid: Name or service not known")


@pytest.fixture
async def hanging_lookups(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """No lookup answers before the test is over."""
    over = threading.Event()

    def hang(*_args: object, **_options: object) -> None:
        over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    over.set()


@pytest.mark.usefixtures("hanging_lookups")
async def test_a_name_that_is_never_resolved_is_dns_at_the_deadline() -> None:
    """The deadline reads the mark; the loop is free meanwhile."""
    phases = phase.begin()
    task = asyncio.create_task(fetch("http://slow.invalid/"))
    await eventually(lambda: phases.innermost == ("resolve slow.invalid", Reason.DNS), 5)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
    assert phases.innermost == ("", Reason.TIMEOUT)


# deadlines


async def stalled(where: str, certificates: Certificates, stack: AsyncExitStack) -> tuple[str, str]:
    """A URL that hangs in one phase, and the mark it leaves."""
    if where == "connect":
        port = await stack.enter_async_context(black_hole())
        return f"http://{HOST}:{port}/", f"connect {HOST}:{port}"
    if where == "tls":
        port = await stack.enter_async_context(silent())
        return f"https://{HOST}:{port}/", f"TLS handshake with {HOST}:{port}"
    if where == "answer":
        port = await stack.enter_async_context(silent())
        return f"http://{HOST}:{port}/slow?key=hunter2", f"GET {HOST}:{port}/slow"
    if where == "answer over TLS":
        port = await stack.enter_async_context(saying_over_tls(b"", certificates.authority, postgres=False))
        return f"https://{HOST}:{port}/", f"GET {HOST}:{port}/"
    port = await stack.enter_async_context(dripping(HEAD + b"Content-Length: 99\r\n\r\n" + b"x" * 50, 0.001))
    return f"http://{HOST}:{port}/", f"GET {HOST}:{port}/, reading the body"


STALLS = ("connect", "tls", "answer", "answer over TLS", "body")


@pytest.mark.parametrize("where", STALLS)
async def test_a_deadline_can_name_what_was_waited_for(where: str, certificates: Certificates) -> None:
    """ "timeout" alone sends an operator to the wrong place."""
    async with nothing_left(), AsyncExitStack() as stack:
        url, mark = await stalled(where, certificates, stack)
        phases = phase.begin()
        task = asyncio.create_task(fetch(url, tls=Tls(ca_file=certificates.ca_file)))
        await eventually(lambda: phases.innermost == (mark, Reason.TIMEOUT), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("where", STALLS)
async def test_a_cancel_closes_the_socket_at_once(where: str, certificates: Certificates) -> None:
    """The deadline cancels; a TLS shutdown that waits 30 s for a frozen peer would hold the descriptor."""
    async with AsyncExitStack() as stack:
        url, mark = await stalled(where, certificates, stack)
        async with nothing_left(within=1):
            phases = phase.begin()
            task = asyncio.create_task(fetch(url, tls=Tls(ca_file=certificates.ca_file)))
            await eventually(lambda: phases.innermost[0] == mark, 5)
            task.cancel()
            await asyncio.wait([task], timeout=1)
            assert task.cancelled()
            if where != "connect":
                await stack.aclose()  # the peer's own end of the connection


@pytest.mark.parametrize("where", ["tls", "answer", "answer over TLS", "body"])
async def test_drop_closes_the_socket_though_the_cancel_is_swallowed(where: str, certificates: Certificates) -> None:
    """The engine drops after every deadline, for drivers are known to swallow a cancel."""
    async with nothing_left(), AsyncExitStack() as stack:
        url, mark = await stalled(where, certificates, stack)
        lease = Lease(CHECK)
        phases = phase.begin()
        task = asyncio.create_task(fetch(url, tls=Tls(ca_file=certificates.ca_file), lease=lease))
        await eventually(lambda: phases.innermost[0] == mark, 5)
        lease.drop()
        with pytest.raises(ProbeError) as caught:
            await asyncio.wait_for(task, 1)
        assert caught.value.reason is Reason.RESET


async def test_a_peer_that_ignores_our_goodbye_holds_nothing(certificates: Certificates) -> None:
    """asyncio waits 30 s for the answer to a TLS shutdown; a server frozen just then would cost a descriptor each check."""
    context = certificates.server()

    async def freeze(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(context)
        writer.write(HEAD + b"Content-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # WriteTransport's own class has it
        await asyncio.Event().wait()

    async with peer(freeze) as port:
        async with asyncio.timeout(20):
            fds = open_fds()
            answer = await fetch(f"https://{HOST}:{port}/", tls=Tls(ca_file=certificates.ca_file))
            await eventually(lambda: (open_fds() - fds)["socket"] == 1, 1)  # the peer's end alone
    assert answer.body == b"hi"


async def test_a_request_on_a_dropped_lease_opens_nothing_that_lasts() -> None:
    """An abandoned run that wakes up late must not hold a connection."""
    lease = Lease(CHECK)
    lease.drop()
    async with nothing_left(), silent() as port:
        with pytest.raises(ProbeError):
            await fetch(f"http://{HOST}:{port}/", lease=lease, seconds=2)


async def test_the_loop_is_free_while_a_peer_sends_zeros() -> None:
    """One bad peer must not delay the others' probes."""
    late = 0.0

    async def watch() -> None:
        nonlocal late
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.005)
            late = max(late, time.monotonic() - started)

    async with saying(TEN_ZEROS * 100_000) as port:
        watcher = asyncio.create_task(watch())
        for _ in range(20):
            await failure(f"http://{HOST}:{port}/")
        watcher.cancel()
    assert late < 1.0  # a parser that spins never lets go
