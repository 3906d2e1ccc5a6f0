"""What every probe type must do in every fault: the right reason, within its deadline, with nothing left open.

A new type adds one `Case`. The check runs exactly as the schedule runs it; only the clock of the schedule is left out.
"""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import trustme
from aiohttp import web

from exporter.demo.servers import Postgres, RabbitMQ, Redis
from exporter.drivers.dns import Resolver
from exporter.model import Outcome, Reason, Run
from exporter.probes import TYPES
from exporter.probes.base import Probe, Runtime
from exporter.schedule import Tools
from exporter.schedule.jobs import check_job
from exporter.schedule.run import Runner
from exporter.secret import Redactor
from tests.faults import TEN_ZEROS, Proxy, black_hole, garbage, resetting, saying, saying_over_tls, silent
from tests.servers import closed_port, eventually, nothing_left

TIMEOUT_SECONDS = 1.0
SLACK_SECONDS = 3.0  # the machines are shared; what is asserted is that no deadline is a driver's own
CANARY = "tr0ub4dor-canary"


@dataclass(frozen=True)
class Case:
    """One probe type: the keys that point it at a place, without and with TLS, and what it says after TLS has been asked for."""

    type: str
    keys: Callable[[str, int], dict[str, object]]
    tls_keys: Callable[[str, int, str], dict[str, object]]
    speaks_starttls: bool
    over: str = ""
    """The type of the server there, where a type has more than one."""

    @property
    def name(self) -> str:
        return f"{self.type} over {self.over}" if self.over else self.type


CASES = {
    case.name: case
    for case in (
        Case(
            "postgres",
            lambda host, port: {"url": f"postgresql://postgres:{CANARY}@{host}:{port}/postgres", "retry": "none"},
            lambda host, port, ca: {
                "url": f"postgresql://postgres:{CANARY}@{host}:{port}/postgres?sslmode=verify-full",
                "tls": {"ca_file": ca},
                "retry": "none",
            },
            speaks_starttls=True,
        ),
        Case(
            "redis",
            lambda host, port: {"url": f"redis://:{CANARY}@{host}:{port}/1", "retry": "none"},
            lambda host, port, ca: {"url": f"rediss://:{CANARY}@{host}:{port}/1", "tls": {"ca_file": ca}, "retry": "none"},
            speaks_starttls=False,
        ),
        Case(
            "rabbitmq",
            lambda host, port: {"url": f"amqp://demo:{CANARY}@{host}:{port}/", "retry": "none"},
            lambda host, port, ca: {
                "url": f"amqps://demo:{CANARY}@{host}:{port}/",
                "tls": {"ca_file": ca},
                "retry": "none",
            },
            speaks_starttls=False,
        ),
        Case(
            "celery",
            lambda host, port: {"broker_url": f"amqp://demo:{CANARY}@{host}:{port}//", "min_workers": 0},
            lambda host, port, ca: {"broker_url": f"amqps://demo:{CANARY}@{host}:{port}//", "tls": {"ca_file": ca}},
            speaks_starttls=False,
            over="rabbitmq",
        ),
        Case(
            "celery",
            lambda host, port: {"broker_url": f"redis://:{CANARY}@{host}:{port}/7", "min_workers": 0},
            lambda host, port, ca: {"broker_url": f"rediss://:{CANARY}@{host}:{port}/7", "tls": {"ca_file": ca}},
            speaks_starttls=False,
            over="redis",
        ),
        Case(
            "http",
            lambda host, port: {"url": f"http://{host}:{port}/health?token={CANARY}", "bearer_token": CANARY},
            lambda host, port, ca: {"url": f"https://{host}:{port}/health?token={CANARY}", "tls": {"ca_file": ca}},
            speaks_starttls=False,
        ),
    )
}

# imported before a loop runs, as the application does it in a thread: drivers read files of theirs
PROBES: dict[str, type[Probe[Any]]] = {name: kind.load_probe() for name, kind in TYPES.items()}

every_type = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


class Checked:
    """One probe of a case, checked as the schedule checks it."""

    def __init__(self, case: Case, keys: dict[str, object]) -> None:
        kind = TYPES[case.type]
        settings = kind.load_settings().model_validate(
            {"type": case.type, "interval": "10s", "timeout": f"{TIMEOUT_SECONDS:g}s", **keys}
        )
        self.probe = PROBES[case.type]("target", settings, Runtime("test", Resolver()))
        self.abandoned: list[object] = []
        tools = Tools(time.time, Random(1), Redactor(), lambda _, task: self.abandoned.append(task))
        self._runner = Runner(check_job(self.probe), tools)

    async def check(self) -> Run:
        """One run; it must end in time, whatever the peer does, and never say a secret."""
        runs: list[Run] = []
        began = time.monotonic()
        async with asyncio.timeout(TIMEOUT_SECONDS + SLACK_SECONDS):
            await self._runner.run(runs.append)
        (run,) = runs
        assert run.duration_seconds <= time.monotonic() - began
        assert CANARY not in f"{run}"
        assert self.abandoned == []
        return run


@asynccontextmanager
async def checked(case: Case, keys: dict[str, object]) -> AsyncIterator[Checked]:
    """The probe for the length of the block."""
    subject = Checked(case, keys)
    yield subject
    await subject.probe.aclose()


Real = Callable[[Case], AbstractAsyncContextManager[tuple[int, dict[str, object]]]]


@pytest.fixture
def real_server(postgres_server: Postgres, redis_server: Redis, rabbitmq_server: RabbitMQ) -> Real:
    """Gives the port of a real server of a type for the length of a block, and the keys that log in there."""
    standing: dict[str, tuple[int, dict[str, object]]] = {
        "postgres": (postgres_server.port, {"password": postgres_server.password}),
        "redis": (redis_server.port, {"password": redis_server.password}),
        "rabbitmq": (rabbitmq_server.port, {"password": rabbitmq_server.password}),
    }

    @asynccontextmanager
    async def serve(case: Case) -> AsyncIterator[tuple[int, dict[str, object]]]:
        if (case.over or case.type) in standing:
            yield standing[case.over or case.type]
        else:
            async with _web_server() as port:
                yield port, {}

    return serve


@asynccontextmanager
async def _web_server() -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/health", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture(autouse=True)
async def _nothing_left(real_server: Real) -> AsyncIterator[None]:
    """After each test: no file, no socket and no task more than before, the misbehaving peer's included."""
    async with nothing_left():
        yield


FAULTS: dict[str, tuple[Callable[[], AbstractAsyncContextManager[int]], Reason]] = {
    "never answers": (silent, Reason.TIMEOUT),
    "black hole": (black_hole, Reason.TIMEOUT),
    "reset": (resetting, Reason.RESET),
    "ten zeros": (lambda: saying(TEN_ZEROS), Reason.PROTOCOL),
    "garbage that begins with zeros": (lambda: saying(TEN_ZEROS + garbage(1)), Reason.PROTOCOL),
    "garbage": (lambda: saying(b"\xff" + garbage(2)), Reason.PROTOCOL),
}


@every_type
async def test_a_real_server_is_a_success(case: Case, real_server: Real) -> None:
    """The faults below would prove nothing if the ordinary case did not work."""
    async with real_server(case) as (port, login), checked(case, case.keys("127.0.0.1", port) | login) as subject:
        run = await subject.check()
        assert (run.outcome, run.reason, run.message) == (Outcome.SUCCESS, None, None)
        assert run.reading is not None
        assert run.reading.detail["tls"] is False


@every_type
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_has_its_reason_within_the_deadline(case: Case, fault: str) -> None:
    """An operator at 3 a.m. must be told what is wrong, by the exporter and not by its absence."""
    peer, reason = FAULTS[fault]
    async with peer() as port, checked(case, case.keys("127.0.0.1", port)) as subject:
        run = await subject.check()
        assert (run.outcome, run.reason) == (Outcome.FAILURE, reason), run.message
        assert run.message is not None
        assert str(port) in run.message


@every_type
async def test_a_closed_port_is_refused(case: Case) -> None:
    """The most common fault of all."""
    with closed_port() as port:
        async with checked(case, case.keys("127.0.0.1", port)) as subject:
            run = await subject.check()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.REFUSED)
    assert f"127.0.0.1:{port}" in str(run.message)


@every_type
async def test_ten_zeros_after_tls_do_not_stop_the_loop(case: Case, tmp_path: Any) -> None:
    """A driver's parser gets only well-framed bytes, under TLS too; other probes go on meanwhile."""
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    lags: list[float] = []

    async def feel() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - began - 0.01)

    async with saying_over_tls(TEN_ZEROS, authority, postgres=case.speaks_starttls) as port:
        async with checked(case, case.tls_keys("127.0.0.1", port, str(ca))) as subject:
            feeler = asyncio.create_task(feel())
            run = await subject.check()
            await eventually(lambda: len(lags) > 1, 5)
            feeler.cancel()
            await asyncio.wait((feeler,))
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.PROTOCOL), run.message
    print(f"the loop came at most {max(lags) * 1000:.1f} ms late")
    assert max(lags) < 1.0  # spun, it would never come


@every_type
async def test_a_certificate_of_another_authority_is_tls(case: Case, tmp_path: Any) -> None:
    """Verification is on unless it was switched off in writing."""
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    async with saying_over_tls(b"", trustme.CA(), postgres=case.speaks_starttls) as port:
        async with checked(case, case.tls_keys("127.0.0.1", port, str(ca))) as subject:
            run = await subject.check()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.TLS), run.message


@every_type
async def test_a_name_that_does_not_resolve_is_dns(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told apart from a server that is down."""

    def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with checked(case, case.keys("db.invalid", 5432)) as subject:
        run = await subject.check()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.DNS)
    assert "db.invalid" in str(run.message)


@every_type
async def test_a_lookup_that_hangs_is_dns_at_the_deadline(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's thread is left to itself; the run is not."""
    free = threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        free.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with checked(case, case.keys("db.invalid", 5432)) as subject:
        run = await subject.check()
        free.set()
    assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.DNS)
    assert run.message == "resolve db.invalid: no answer within 1s"


@every_type
async def test_a_half_open_connection_heals_with_the_next_check(case: Case, real_server: Real) -> None:
    """The old connection is silent for good, new ones work: a kept one must not be trusted after a timeout."""
    async with real_server(case) as (port, login), Proxy(port) as proxy:
        async with checked(case, case.keys("127.0.0.1", proxy.port) | login) as subject:
            assert (await subject.check()).outcome is Outcome.SUCCESS
            proxy.half_open()
            await subject.check()
            assert (await subject.check()).outcome is Outcome.SUCCESS


@every_type
async def test_a_path_that_stalls_and_flows_again_heals(case: Case, real_server: Real) -> None:
    """As after a failing switch: timeout while it lasts, right again at once."""
    async with real_server(case) as (port, login), Proxy(port) as proxy:
        async with checked(case, case.keys("127.0.0.1", proxy.port) | login) as subject:
            assert (await subject.check()).outcome is Outcome.SUCCESS
            proxy.stall()
            for _ in range(2):
                assert (await subject.check()).reason is Reason.TIMEOUT
            proxy.resume()
            assert (await subject.check()).outcome is Outcome.SUCCESS


@every_type
async def test_a_connection_reset_between_two_checks_costs_nothing(case: Case, real_server: Real) -> None:
    """A kept connection that died while idle is seen to be dead and made anew."""
    async with real_server(case) as (port, login), Proxy(port) as proxy:
        async with checked(case, case.keys("127.0.0.1", proxy.port) | login) as subject:
            assert (await subject.check()).outcome is Outcome.SUCCESS
            proxy.reset()
            await eventually(lambda: proxy.connections == 0, 5)
            await asyncio.sleep(0)
            assert (await subject.check()).outcome is Outcome.SUCCESS


@every_type
async def test_a_hundred_failing_checks_leave_nothing_open(case: Case) -> None:
    """No fd, no task, however the peer misbehaves."""
    async with resetting() as port, checked(case, case.keys("127.0.0.1", port)) as subject:
        for _ in range(100):
            assert (await subject.check()).outcome is Outcome.FAILURE


def test_every_type_has_a_case() -> None:
    """A type that is not held to the contract is not one of ours."""
    assert {case.type for case in CASES.values()} == set(TYPES)
