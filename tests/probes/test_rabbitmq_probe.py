"""The probe on a real broker: what a check tells, what each fault is called, and what it leaves there."""

import asyncio
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest
import trustme

from exporter.demo.servers import HOST, RabbitMQ
from exporter.demo.servers.rabbitmq import User
from exporter.drivers.amqp import Endpoint, Login, Message, Outgoing, Session, connect
from exporter.drivers.dns import Resolver
from exporter.model import CHECK, Outcome, Reading, Reason, Run
from exporter.probes.base import Runtime
from exporter.probes.rabbitmq.probe import QUEUES, RabbitmqProbe
from exporter.probes.rabbitmq.settings import RabbitmqSettings
from exporter.schedule import Tools
from exporter.schedule.jobs import check_job
from exporter.schedule.run import Runner
from exporter.secret import Redactor, Secret
from tests.brokers import HOMELESS, NEIGHBOUR, NOBODY, OTHER_VHOST, OURSELVES, QUEUE
from tests.faults import Proxy
from tests.servers import eventually, nothing_left, open_fds

StartRabbitMQ = Callable[..., Awaitable[RabbitMQ]]

TIMEOUT_SECONDS = 2.0
RECONNECTS = 200


class Probing:
    """A probe whose check and collectors run as the schedule runs them."""

    def __init__(self, url: str, **keys: object) -> None:
        keys = {"timeout": f"{TIMEOUT_SECONDS:g}s", "retry": "none", **keys}
        settings = RabbitmqSettings.model_validate({"type": "rabbitmq", "url": url, **keys})
        self.probe = RabbitmqProbe("mq", settings, Runtime("tests", Resolver()))
        self._abandoned: list[object] = []
        tools = Tools(time.time, Random(1), Redactor(), lambda _, task: self._abandoned.append(task))
        self._runner = Runner(check_job(self.probe), tools)

    async def check(self) -> Run:
        runs: list[Run] = []
        await self._runner.run(runs.append)
        (run,) = runs
        assert self._abandoned == []
        return run

    async def reading(self) -> Reading:
        """That of a check which must succeed."""
        run = await self.check()
        assert run.outcome is Outcome.SUCCESS, run
        assert run.reading is not None
        return run.reading

    async def queues(self) -> dict[str, dict[tuple[str, ...], object]]:
        """The rows of the collector's families by their names."""
        (collector,) = self.probe.collectors()
        assert collector.name == QUEUES
        return {family.metric.name: dict(family.rows) for family in (await collector.run()).families}


@asynccontextmanager
async def probing(url: str, **keys: object) -> AsyncIterator[Probing]:
    subject = Probing(url, **keys)
    try:
        yield subject
    finally:
        await subject.probe.aclose()


@asynccontextmanager
async def session_on(server: RabbitMQ) -> AsyncIterator[Session]:
    """An application's own connection."""
    login = Login(Endpoint(HOST, server.port), server.user, Secret(server.password))
    session = await connect(login, Resolver(), lambda abort: None)
    try:
        yield session
    finally:
        session.abort()


def url_of(server: RabbitMQ, user: User, vhost: str = "/") -> str:
    return server.url_of(vhost, user=user.name, password=user.password)


def told_by(server: RabbitMQ, *question: str) -> list[dict[str, object]]:
    """A table of rabbitmqctl."""
    rows: list[dict[str, object]] = json.loads(server.control("--formatter", "json", *question))
    return rows


@pytest.fixture(autouse=True)
async def _nothing_stays(rabbitmq_server: RabbitMQ) -> AsyncIterator[None]:
    async with nothing_left():
        yield


# --- the check --------------------------------------------------------------------------------------------------------------


async def test_a_check_tells_who_answered(rabbitmq_server: RabbitMQ) -> None:
    """Small facts for /health, none of them a secret."""
    async with probing(rabbitmq_server.url) as subject:
        reading = await subject.reading()
        assert subject.probe.collectors() == ()
    version = reading.detail["version"]
    assert str(version).startswith("3.")
    assert reading.detail == {
        "version": version,
        "product": "RabbitMQ",
        "cluster": reading.detail["cluster"],
        "vhost": "/",
        "tls": False,
        "pool": "1 of 2 connections",
        "checked_by": "round trip",
    }
    assert [(capability.feature, capability.available) for capability in reading.capabilities] == [("round_trip", True)]


async def test_checks_share_one_connection(rabbitmq_server: RabbitMQ) -> None:
    """A connection for each check would be a burden, and a line in the broker's log."""
    async with Proxy(rabbitmq_server.port) as proxy:
        url = rabbitmq_server.url.replace(f":{rabbitmq_server.port}/", f":{proxy.port}/")
        async with probing(url, queues=[QUEUE]) as subject:
            for _ in range(5):
                await asyncio.gather(subject.reading(), subject.queues())
            assert proxy.connections == 2
            use = subject.probe.pool()
            assert (use.idle, use.used, use.limit) == (2, 0, subject.probe.settings.connections())


async def test_tls_is_told(rabbitmq_server: RabbitMQ, broker_authority: trustme.CA, tmp_path: Path) -> None:
    """An operator sees in /health whether the password travels in plain."""
    broker_authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    url = rabbitmq_server.url_of(tls=True)
    async with probing(url, tls={"ca_file": str(tmp_path / "ca.pem")}) as subject:
        assert (await subject.reading()).detail["tls"] is True
    async with probing(url) as subject:
        assert (await subject.check()).reason is Reason.TLS


async def test_what_the_login_lacks_is_told_apart(rabbitmq_server: RabbitMQ) -> None:
    """A password, a virtual host and a right are three different repairs; no secret is in any message."""
    wrong = User(rabbitmq_server.user, "another-canary")
    for url, reason in (
        (url_of(rabbitmq_server, wrong), Reason.AUTH),
        (rabbitmq_server.url_of("nowhere"), Reason.FORBIDDEN),
        (url_of(rabbitmq_server, HOMELESS), Reason.FORBIDDEN),
        (url_of(rabbitmq_server, NOBODY), Reason.FORBIDDEN),
    ):
        async with probing(url) as subject:
            run = await subject.check()
            assert (run.outcome, run.reason) == (Outcome.FAILURE, reason)
            assert "canary" not in f"{run}"
            assert f"{HOST}:{rabbitmq_server.port}" in str(run.message)


async def test_a_grant_on_our_names_is_enough(rabbitmq_server: RabbitMQ) -> None:
    """One pattern, which the README can name."""
    async with probing(url_of(rabbitmq_server, OURSELVES), queues=[QUEUE]) as subject:
        assert (await subject.reading()).detail["checked_by"] == "round trip"


async def test_without_the_right_to_declare_a_named_queue_decides(rabbitmq_server: RabbitMQ) -> None:
    """A login that may do nothing can still look; the detail says what was not done, and the capability how to have it."""
    refusals = rabbitmq_server.log.read_text().count("access_refused")
    async with probing(url_of(rabbitmq_server, NOBODY), queues=[QUEUE]) as subject:
        for _ in range(3):
            reading = await subject.reading()
        assert reading.detail["checked_by"] == "passive declare; no right to declare a queue"
        lacking = [capability for capability in reading.capabilities if not capability.available]
        assert [capability.feature for capability in lacking] == ["round_trip"]
        assert r"^exporter\." in lacking[0].cure
    # the broker logs a refusal each time: it was asked once
    await eventually(lambda: rabbitmq_server.log.read_text().count("access_refused") > refusals, 5)
    assert rabbitmq_server.log.read_text().count("access_refused") == refusals + 1


# --- queues -----------------------------------------------------------------------------------------------------------------


async def test_queues_are_counted(rabbitmq_server: RabbitMQ) -> None:
    """By the plugin's names, with the virtual host as it is written."""
    queue = f"work.{secrets.token_hex(4)}"
    received: list[Message] = []
    async with session_on(rabbitmq_server) as application, probing(rabbitmq_server.url, queues=[queue]) as subject:
        channel = await application.channel(confirms=True)
        await channel.declare_queue(queue, auto_delete=True)
        for _ in range(5):
            await channel.publish(Outgoing(b"x"), routing_key=queue)
        labels = ("/", queue)
        assert await subject.queues() == {
            "rabbitmq_queue_messages_ready": {labels: 5},
            "rabbitmq_queue_consumers": {labels: 0},
        }
        await (await application.channel()).consume(queue, received.append, prefetch=2)
        await eventually(lambda: len(received) == 2, 5)
        assert await subject.queues() == {
            "rabbitmq_queue_messages_ready": {labels: 3},
            "rabbitmq_queue_consumers": {labels: 1},
        }


async def test_a_missing_queue_degrades_until_it_is_there(rabbitmq_server: RabbitMQ) -> None:
    """The broker answers, so it is not down; its numbers are absent, and those of others are not."""
    queue = f"late.{secrets.token_hex(4)}"
    async with session_on(rabbitmq_server) as application, probing(rabbitmq_server.url, queues=[QUEUE, queue]) as subject:
        run = await subject.check()
        assert (run.outcome, run.reason) == (Outcome.DEGRADED, Reason.ASSERTION)
        assert run.message == f"in vhost / on {HOST}:{rabbitmq_server.port} there is no queue {queue}"
        assert list((await subject.queues())["rabbitmq_queue_messages_ready"]) == [("/", QUEUE)]
        await (await application.channel()).declare_queue(queue, exclusive=False, auto_delete=True)
        await subject.reading()
        assert ("/", queue) in (await subject.queues())["rabbitmq_queue_consumers"]
        await (await application.channel()).delete_queue(queue)
        assert list((await subject.queues())["rabbitmq_queue_messages_ready"]) == [("/", QUEUE)]


async def test_a_queue_of_another_virtual_host_is_not_there(rabbitmq_server: RabbitMQ) -> None:
    """One probe, one virtual host."""
    async with probing(url_of(rabbitmq_server, NEIGHBOUR, OTHER_VHOST), queues=[QUEUE]) as subject:
        run = await subject.check()
        assert (run.outcome, run.reason) == (Outcome.DEGRADED, Reason.ASSERTION)
        assert run.reading is not None
        assert run.reading.detail["vhost"] == OTHER_VHOST


async def test_a_queue_that_cannot_be_seen_fails_its_collector_alone(rabbitmq_server: RabbitMQ) -> None:
    """An exclusive queue is its connection's; that is neither missing nor a broker that is down."""
    queue = f"own.{secrets.token_hex(4)}"
    async with session_on(rabbitmq_server) as application, probing(rabbitmq_server.url, queues=[queue, QUEUE]) as subject:
        await (await application.channel()).declare_queue(queue, exclusive=True)
        reading = await subject.reading()
        assert [(c.feature, c.available) for c in reading.capabilities] == [("round_trip", True), ("queues", False)]
        with pytest.raises(Exception, match="RESOURCE_LOCKED") as caught:
            await subject.queues()
        partial: Reading = caught.value.reading  # type: ignore[attr-defined]  # a ProbeError
        assert [row[0] for family in partial.families for row in family.rows] == [("/", QUEUE)] * 2


# --- faults -----------------------------------------------------------------------------------------------------------------


async def test_an_alarm_is_blocked_and_looking_goes_on(rabbitmq_server: RabbitMQ) -> None:
    """Publishers are silenced, so the application is: unhealthy. Who only looks is answered, and nothing piles up meanwhile."""
    control = rabbitmq_server.control
    async with probing(rabbitmq_server.url, queues=[QUEUE]) as subject, probing(rabbitmq_server.url) as newcomer:
        await subject.reading()
        try:
            await asyncio.to_thread(control, "set_vm_memory_high_watermark", "0")
            for probe in (subject, newcomer, subject, newcomer, subject):
                run = await probe.check()
                assert (run.outcome, run.reason) == (Outcome.FAILURE, Reason.BLOCKED), run
                assert run.duration_seconds < TIMEOUT_SECONDS
                assert str(run.message).endswith("the broker takes no messages: low on memory")
            assert ("/", QUEUE) in (await subject.queues())["rabbitmq_queue_messages_ready"]
            connections = await asyncio.to_thread(told_by, rabbitmq_server, "list_connections", "state")
            states = Counter(row["state"] for row in connections)
            assert (states["blocked"], states["blocking"]) == (2, 2)  # those that speak; those that look
            await _frozen_while_blocked(rabbitmq_server, subject)
        finally:
            await asyncio.to_thread(control, "set_vm_memory_high_watermark", "0.4")
        for probe in (subject, newcomer):
            await eventually(lambda probe=probe: _succeeds(probe), 5)  # type: ignore[misc]  # bound for this turn


async def _succeeds(subject: Probing) -> bool:
    return (await subject.check()).outcome is Outcome.SUCCESS


async def _frozen_while_blocked(server: RabbitMQ, subject: Probing) -> None:
    """What the broker said last does not count for ever."""
    server.freeze()
    try:
        assert (await subject.check()).reason is Reason.TIMEOUT
    finally:
        server.thaw()


async def test_a_frozen_broker_times_out_and_heals(rabbitmq_server: RabbitMQ) -> None:
    """At the deadline, on a kept connection and on a new one; the message says what was waited for."""
    async with probing(rabbitmq_server.url, timeout="500ms", queues=[QUEUE]) as subject:
        await subject.reading()
        rabbitmq_server.freeze()
        try:
            kept, new = [await subject.check() for _ in range(2)]
        finally:
            rabbitmq_server.thaw()
        assert (kept.reason, new.reason) == (Reason.TIMEOUT, Reason.TIMEOUT)
        assert str(kept.message).startswith("publish to exporter.tests.mq.")
        assert new.message == f"log in to {HOST}:{rabbitmq_server.port}: no answer within 0.5s"
        await eventually(lambda: _succeeds(subject), 5)


async def test_a_killed_broker_is_refused_and_heals(private_rabbitmq: StartRabbitMQ) -> None:
    """From the first check after it is gone, to the first after it listens again."""
    server = await private_rabbitmq()
    async with probing(server.url) as subject:
        await subject.reading()
        await asyncio.to_thread(server.kill)
        run = await subject.check()
        assert (run.reason, run.message) == (Reason.REFUSED, f"connect {HOST}:{server.port}: connection refused")
        await asyncio.to_thread(server.restart)
        await subject.reading()


async def test_a_half_open_look_fails_once(rabbitmq_server: RabbitMQ) -> None:
    """The collector's own connection is doubted by itself; the check's is another."""
    async with Proxy(rabbitmq_server.port) as proxy:
        url = rabbitmq_server.url.replace(f":{rabbitmq_server.port}/", f":{proxy.port}/")
        async with probing(url, queues=[QUEUE]) as subject:
            await subject.queues()
            proxy.half_open()
            task = asyncio.create_task(subject.queues())
            await asyncio.wait((task,), timeout=0.2)
            subject.probe.drop(QUEUES)
            assert task in (await asyncio.wait((task,), timeout=5))[0]
            assert isinstance(task.exception(), Exception)
            assert await subject.queues()


# --- what stays -------------------------------------------------------------------------------------------------------------


async def test_two_hundred_reconnects_leave_nothing(rabbitmq_server: RabbitMQ) -> None:
    """No file, no task and no thread with us; no queue and no connection on the broker."""
    async with nothing_left(), probing(rabbitmq_server.url, queues=[QUEUE]) as subject:
        await asyncio.gather(subject.reading(), subject.queues())
        before = _held()
        for _ in range(RECONNECTS):
            subject.probe.drop(CHECK)
            subject.probe.drop(QUEUES)
            await asyncio.gather(subject.reading(), subject.queues())
        with suppress(pytest.fail.Exception):  # what an aborted connection had goes a moment later
            await eventually(lambda: _held() == before, 5)
        print(f"{RECONNECTS} reconnects of both connections: before {before}, after {_held()}")
        assert _held() == before
    queues = [str(row["name"]) for row in await asyncio.to_thread(told_by, rabbitmq_server, "list_queues", "name")]
    assert [name for name in queues if name.startswith("exporter.")] == []
    assert await asyncio.to_thread(told_by, rabbitmq_server, "list_connections", "name") == []


def _held() -> dict[str, int]:
    """What this process holds now, in numbers."""
    return {"fds": sum(open_fds().values()), "tasks": len(asyncio.all_tasks()), "threads": threading.active_count()}
