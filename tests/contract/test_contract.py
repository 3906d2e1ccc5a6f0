"""What every probe type must do in every fault: the right reason, within its deadline, with nothing left open.

What is held to it stands in `cases`. The check runs exactly as the schedule runs it; only the clock of the schedule is left out.
"""

import asyncio
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme
from aiohttp import web

from exporter.demo.servers import HOST, Postgres, RabbitMQ, Redis
from exporter.drivers.dns import Resolver
from exporter.model import Outcome, Reading, Reason, Run
from exporter.probes import TYPES
from exporter.probes.base import Probe, Runtime
from exporter.schedule import Tools
from exporter.schedule.jobs import check_job
from exporter.schedule.run import Runner
from exporter.secret import Redactor
from tests.contract.cases import CANARY, Case, Keys, Peril, Target, Way, every_case, every_case_spared, every_case_with
from tests.faults import TEN_ZEROS, Listen, Proxy, black_hole, garbage, resetting, saying, saying_over_tls, server_tls, silent
from tests.servers import closed_port, eventually, nothing_left

TIMEOUT_SECONDS = 1.0
SLACK_SECONDS = 3.0  # the machines are shared; what is asserted is that no deadline is a driver's own
SOON: Keys = {"timeout": "300ms"}  # where nothing will ever come

Fault = Callable[[Listen], AbstractAsyncContextManager[int]]

# imported before a loop runs, as the application does it in a thread: drivers read files of theirs
PROBES: dict[str, type[Probe[Any]]] = {name: kind.load_probe() for name, kind in TYPES.items()}


class Checked:
    """One probe of a case, checked as the schedule checks it."""

    def __init__(self, case: Case, keys: Keys) -> None:
        kind = TYPES[case.type]
        settings = kind.load_settings().model_validate(
            {"type": case.type, "interval": "10s", "timeout": f"{TIMEOUT_SECONDS:g}s", **keys}
        )
        self.probe = PROBES[case.type]("target", settings, Runtime("test", Resolver()))
        self.abandoned: list[object] = []
        tools = Tools(time.time, Random(1), Redactor(), lambda _, task: self.abandoned.append(task))
        self._tools = tools
        self.begin_anew()

    def begin_anew(self) -> None:
        """Takes the probe's check as it is now."""
        self._runner = Runner(check_job(self.probe), self._tools)

    async def check(self) -> Run:
        """One run; it must end in time, whatever the peer does, and never say a secret."""
        runs: list[Run] = []
        began = time.monotonic()
        async with asyncio.timeout(self.probe.settings.timeout_seconds + SLACK_SECONDS):
            await self._runner.run(runs.append)
        (run,) = runs
        assert run.duration_seconds <= time.monotonic() - began
        assert CANARY not in f"{run}"
        assert self.abandoned == []
        return run


@asynccontextmanager
async def checked(case: Case, keys: Keys) -> AsyncIterator[Checked]:
    """The probe for the length of the block."""
    subject = Checked(case, keys)
    try:
        yield subject
    finally:
        await subject.probe.aclose()


class Ground:
    """Where the misbehaving peers of a case listen, and how its probe is pointed at them and at a real server."""

    def __init__(self, case: Case, folder: Path, authority: trustme.CA) -> None:
        self._listen = Listen(
            path=str(folder / "peer") if case.way is Way.UNIX else "",
            tls=server_tls(authority) if case.way is Way.TLS else None,
        )
        self._ca_file = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self._ca_file)

    def target(self, door: int | str) -> Target:
        """That behind a port, or on a path; 0 is the path of our own peers."""
        door = door or self._listen.path
        return Target(door if isinstance(door, str) else f"{HOST}:{door}", self._ca_file)

    @asynccontextmanager
    async def peer(self, fault: Fault) -> AsyncIterator[Target]:
        """Somebody who does that, reached as the case reaches its server."""
        async with fault(self._listen) as port:
            yield self.target(port)

    @asynccontextmanager
    async def proxy(self, door: int | str) -> AsyncIterator[tuple[Proxy, Target]]:
        """A proxy to a real server, reached as the case reaches its server."""
        async with Proxy(door, self._listen.path) as proxy:
            yield proxy, self.target(proxy.port)

    @contextmanager
    def nobody(self) -> Iterator[Target]:
        """A place where nobody listens."""
        with closed_port() as port:
            yield self.target(self._listen.path or port)


@pytest.fixture
def ground(case: Case, broker_authority: trustme.CA) -> Iterator[Ground]:
    with tempfile.TemporaryDirectory() as folder:  # its path is short, as a socket's must be (unix(7): 108 bytes)
        yield Ground(case, Path(folder), broker_authority)


@dataclass(frozen=True)
class Real:
    """A real server: its port or path, and the keys that log in there."""

    door: int | str
    login: Keys


@pytest.fixture
async def real(case: Case, postgres_server: Postgres, redis_server: Redis, rabbitmq_server: RabbitMQ) -> AsyncIterator[Real]:
    """The server of the case, reached its way."""
    standing: dict[str, Postgres | Redis | RabbitMQ] = {
        "postgres": postgres_server,
        "redis": redis_server,
        "rabbitmq": rabbitmq_server,
    }
    server = standing.get(case.server or case.type)
    if server is None:
        async with _web_server() as port:
            yield Real(port, {})
    else:
        yield Real(_door(server, case.way), {"password": case.password or server.password})


def _door(server: Postgres | Redis | RabbitMQ, way: Way) -> int | str:
    if way is Way.TCP:
        return server.port
    assert isinstance(server, Redis), "no other has a case for that"
    return server.tls_port if way is Way.TLS else str(server.unix_socket)


@asynccontextmanager
async def _web_server() -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/health", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture(autouse=True)
async def _nothing_left(real: Real) -> AsyncIterator[None]:
    """After each test: no file, no socket and no task more than before, the misbehaving peer's included."""
    async with nothing_left():
        yield


FAULTS: dict[str, tuple[Fault, Reason]] = {
    "never answers": (silent, Reason.TIMEOUT),
    "black hole": (black_hole, Reason.TIMEOUT),
    "reset": (resetting, Reason.RESET),
    "ten zeros": (partial(saying, TEN_ZEROS), Reason.PROTOCOL),
    "garbage that begins with zeros": (partial(saying, TEN_ZEROS + garbage(1)), Reason.PROTOCOL),
    "garbage": (partial(saying, b"\xff" + garbage(2)), Reason.PROTOCOL),
}


@every_case
async def test_a_real_server_is_a_success(case: Case, ground: Ground, real: Real) -> None:
    """The faults below would prove nothing if the ordinary case did not work; the detail says which way was gone."""
    async with checked(case, case.keys(ground.target(real.door)) | real.login) as subject:
        run = await subject.check()
        assert (run.outcome, run.reason, run.message) == (Outcome.SUCCESS, None, None)
        assert run.reading is not None
        assert run.reading.detail.items() >= case.detail.items()


@every_case
async def test_every_collector_reads_a_real_server(case: Case, ground: Ground, real: Real) -> None:
    """Collectors have connections of their own: what leads the check in must lead them in too."""
    async with checked(case, case.keys(ground.target(real.door)) | real.login) as subject:
        await subject.check()
        for collector in subject.probe.collectors():
            assert (await collector.run()).families, collector.name


@every_case
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_has_its_reason_within_the_deadline(case: Case, fault: str, ground: Ground) -> None:
    """An operator at 3 a.m. must be told what is wrong, by the exporter and not by its absence."""
    misbehaving, reason = FAULTS[fault]
    brief = SOON if reason is Reason.TIMEOUT else {}
    async with ground.peer(misbehaving) as target, checked(case, case.keys(target) | brief) as subject:
        run = await subject.check()
        assert (run.outcome, run.reason) == (Outcome.FAILURE, reason), run.message
        assert run.message is not None
        assert target.address in run.message


@every_case
async def test_where_nobody_listens_is_refused(case: Case, ground: Ground) -> None:
    """The most common fault of all: a closed port, a socket that is not there."""
    with ground.nobody() as target:
        async with checked(case, case.keys(target)) as subject:
            run = await subject.check()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.REFUSED)
    assert target.address in str(run.message)


@every_case_with(Peril.TLS)
async def test_ten_zeros_after_tls_do_not_stop_the_loop(case: Case, ground: Ground, broker_authority: trustme.CA) -> None:
    """A driver's parser gets only well-framed bytes, under TLS too; other probes go on meanwhile."""
    lags: list[float] = []

    async def feel() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - began - 0.01)

    async with saying_over_tls(TEN_ZEROS, broker_authority, postgres=case.speaks_starttls) as port:
        async with checked(case, case.tls_keys(ground.target(port))) as subject:
            feeler = asyncio.create_task(feel())
            run = await subject.check()
            await eventually(lambda: len(lags) > 1, 5)
            feeler.cancel()
            await asyncio.wait((feeler,))
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.PROTOCOL), run.message
    print(f"the loop came at most {max(lags) * 1000:.1f} ms late")
    assert max(lags) < 1.0  # spun, it would never come


@every_case_with(Peril.TLS)
async def test_a_certificate_of_another_authority_is_tls(case: Case, ground: Ground) -> None:
    """Verification is on unless it was switched off in writing."""
    async with saying_over_tls(b"", trustme.CA(), postgres=case.speaks_starttls) as port:
        async with checked(case, case.tls_keys(ground.target(port))) as subject:
            run = await subject.check()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.TLS), run.message


@every_case_spared(Peril.TLS)
async def test_who_is_spared_tls_speaks_none_when_asked_to(case: Case, ground: Ground, real: Real) -> None:
    """What a case is spared is shown and not assumed; the detail must not claim what is not there."""
    async with checked(case, case.tls_keys(ground.target(real.door)) | real.login) as subject:
        run = await subject.check()
    assert run.reading is not None, run.message
    assert run.reading.detail["tls"] is False


@every_case_with(Peril.LOOKUP)
async def test_a_name_that_does_not_resolve_is_dns(case: Case, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told apart from a server that is down."""

    def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with checked(case, case.keys(ground.target("db.invalid:5432"))) as subject:
        run = await subject.check()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.DNS)
    assert "db.invalid" in str(run.message)


@every_case_with(Peril.LOOKUP)
async def test_a_lookup_that_hangs_is_dns_at_the_deadline(case: Case, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's thread is left to itself; the run is not."""
    free = threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        free.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with checked(case, case.keys(ground.target("db.invalid:5432")) | SOON) as subject:
        run = await subject.check()
        free.set()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.DNS)
    assert run.message == "resolve db.invalid: no answer within 0.3s"


@every_case_spared(Peril.LOOKUP)
async def test_who_is_spared_lookups_makes_none(case: Case, ground: Ground, real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a case is spared is shown and not assumed."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    async with checked(case, case.keys(ground.target(real.door)) | real.login) as subject:
        assert (await subject.check()).outcome is Outcome.SUCCESS


@every_case
async def test_a_run_that_ignores_its_cancel_ends_with_its_socket(
    case: Case, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some drivers swallow a cancel: the deadline's owner aborts the connection, so that even then nothing is abandoned."""
    async with ground.peer(silent) as target, checked(case, case.keys(target) | SOON) as subject:
        work = subject.probe.check

        async def deaf() -> Reading:
            task = asyncio.ensure_future(work())
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((task,))
            return task.result()

        monkeypatch.setattr(subject.probe, "check", deaf)
        subject.begin_anew()
        run = await subject.check()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.TIMEOUT)


@every_case
async def test_a_half_open_connection_heals_with_the_next_check(case: Case, ground: Ground, real: Real) -> None:
    """The old connection is silent for good, new ones work: a kept one must not be trusted after a timeout."""
    async with ground.proxy(real.door) as (proxy, target):
        async with checked(case, case.keys(target) | real.login) as subject:
            assert (await subject.check()).outcome is Outcome.SUCCESS
            proxy.half_open()
            await subject.check()
            assert (await subject.check()).outcome is Outcome.SUCCESS


@every_case
async def test_a_path_that_stalls_and_flows_again_heals(case: Case, ground: Ground, real: Real) -> None:
    """As after a failing switch: timeout while it lasts, right again at once."""
    async with ground.proxy(real.door) as (proxy, target):
        async with checked(case, case.keys(target) | real.login) as subject:
            assert (await subject.check()).outcome is Outcome.SUCCESS
            proxy.stall()
            for _ in range(2):
                assert (await subject.check()).reason is Reason.TIMEOUT
            proxy.resume()
            assert (await subject.check()).outcome is Outcome.SUCCESS


@every_case
async def test_a_connection_reset_between_two_checks_costs_nothing(case: Case, ground: Ground, real: Real) -> None:
    """A kept connection that died while idle is seen to be dead and made anew."""
    async with ground.proxy(real.door) as (proxy, target):
        async with checked(case, case.keys(target) | real.login) as subject:
            assert (await subject.check()).outcome is Outcome.SUCCESS
            proxy.reset()
            await eventually(lambda: proxy.connections == 0, 5)
            await asyncio.sleep(0)
            assert (await subject.check()).outcome is Outcome.SUCCESS


@every_case
async def test_a_hundred_failing_checks_leave_nothing_open(case: Case, ground: Ground) -> None:
    """No fd, no task, however the peer misbehaves."""
    async with ground.peer(resetting) as target, checked(case, case.keys(target)) as subject:
        for _ in range(100):
            assert (await subject.check()).outcome is Outcome.FAILURE
