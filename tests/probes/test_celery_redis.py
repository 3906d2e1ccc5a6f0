"""Celery over Redis: real workers, a real server, and what happens to them."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from random import Random
from typing import Protocol

import pytest
from redis.asyncio import Redis as Client

from exporter.demo.servers import CeleryWorker, Redis
from exporter.errors import AssertionFailed
from exporter.model import CHECK, Reason, Run
from exporter.schedule import Tools
from exporter.schedule.jobs import check_job
from exporter.schedule.run import Runner
from exporter.secret import Redactor
from tests.celery_app import application
from tests.celery_stage import Watched, listening, look, probe_of, reconnects_leave_nothing
from tests.servers import eventually, started

NAMES = ("w1@here", "quiet@here")


class Send(Protocol):
    def __call__(self, name: str, times: int, queue: str = "celery") -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """A server of our own: these tests freeze it."""
    running = started(Redis)
    yield running
    running.close()


@pytest.fixture(scope="module")
def url(server: Redis) -> str:
    """A database that is not the first: its number is part of every channel."""
    return server.url_of(3)


@pytest.fixture(scope="module")
def workers(url: str) -> Iterator[tuple[CeleryWorker, CeleryWorker]]:
    """One that sends task events, and one that consumes another queue and does not."""
    options = ("--without-mingle", "--without-gossip")
    made = (
        started(CeleryWorker, url, "tests.celery_app:app", node=NAMES[0], pool="threads", options=options),
        started(
            CeleryWorker, url, "tests.celery_app:app", node=NAMES[1], pool="solo", queues=["slow"], events=False, options=options
        ),
    )
    yield made
    for worker in made:
        worker.close()


@pytest.fixture
def send(url: str) -> Iterator[Send]:
    """Has the application call a task so many times, on the worker with events or on the other; blocks."""
    app = application(url)

    def call(name: str, times: int, queue: str = "celery") -> None:
        for _ in range(times):
            app.send_task(name, (1, 2) if name == "shop.add" else (), queue=queue)

    yield call
    app.close()


@pytest.fixture
def instance() -> str:
    return f"test-{secrets.token_hex(3)}"


def _heard(watched: Watched) -> bool:
    return watched.path_up == 1


async def _checked(watched: Watched) -> Run:
    """A check as the schedule runs it."""
    runs: list[Run] = []
    await Runner(check_job(watched.probe), Tools(time.time, Random(1), Redactor(), lambda *_: None)).run(runs.append)
    return runs[0]


@pytest.mark.usefixtures("workers")
async def test_tasks_are_counted_exactly_while_we_listen(url: str, send: Send, instance: str) -> None:
    """PUB/SUB keeps nothing, but loses nothing either for those who are there."""
    async with listening(probe_of(url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        await asyncio.to_thread(send, "shop.add", 100)
        await asyncio.to_thread(send, "shop.fail", 10)
        added = {"sent": 100, "received": 100, "started": 100, "succeeded": 100}
        failed = {"sent": 10, "received": 10, "started": 10, "failed": 10}
        await eventually(lambda: watched.tasks(name="shop.add") == added, 20)
        await eventually(lambda: watched.tasks(name="shop.fail") == failed, 20)
        assert watched.rejected() == dict.fromkeys(("content_type", "too_large", "not_json", "not_an_event"), 0)
        assert watched.ended == []


@pytest.mark.usefixtures("workers")
async def test_a_frozen_server_makes_us_deaf_and_no_worker_dead(server: Redis, url: str, instance: str) -> None:
    """The root cause is the broker: what is known of the workers stays as it was until it is too old to be shown."""
    async with listening(probe_of(url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        assert await watched.workers() == dict.fromkeys(NAMES, 1)
        server.freeze()
        try:
            began = time.monotonic()
            run = await _checked(watched)
            assert run.reason is Reason.TIMEOUT
            assert run.reading is None
            await eventually(lambda: watched.path_up == 0, 6)
            print(f"deaf after {time.monotonic() - began:.1f} s")
            assert time.monotonic() - began < 6
            run = await _checked(watched)
            assert (run.reason, run.reading) == (Reason.TIMEOUT, None)
        finally:
            server.thaw()
        await eventually(lambda: _heard(watched), 10)
        assert await watched.workers() == dict.fromkeys(NAMES, 1)


@pytest.mark.usefixtures("workers")
async def test_events_that_are_off_are_told_with_both_ways_to_switch_them_on(url: str, send: Send, instance: str) -> None:
    """Nobody who misses a number should have to read a manual."""
    async with listening(probe_of(url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        told = str((await look(watched.probe)).detail["task_events"])
        assert told.startswith("none seen yet")
        await eventually(lambda: watched.probe._known.workers._workers[NAMES[1]].processed is not None, 5)
        await asyncio.to_thread(send, "shop.add", 2, "slow")

        async def off() -> str:
            told = str((await look(watched.probe)).detail["task_events"])
            return told if told.startswith("off on quiet@here") else ""

        told = await eventually(off, 15)
        assert "-E" in told
        assert "enable_task_events: true" in told
        (capability,) = (await look(watched.probe)).capabilities
        assert (capability.feature, capability.available) == ("task_events", False)


async def test_queue_length_is_that_of_all_priorities(server: Redis, instance: str) -> None:
    """A queue is four lists; whoever reads one alone does not see what waits with a priority."""
    probe = probe_of(server.url_of(4), instance, queues=["celery", "empty"])
    client = Client.from_url(server.url_of(4))
    app = application(server.url_of(4))
    app.conf.broker_transport_options = {"queue_order_strategy": "priority"}
    for priority in (0, 1, 3, 5, 6, 9):
        await asyncio.to_thread(app.send_task, "shop.add", (1, 2), priority=priority)
    (collector,) = probe.collectors()
    reading = await collector.run()
    assert dict(reading.families[0].rows) == {("celery",): 6, ("empty",): 0}
    assert await client.llen("celery") == 2  # 0 and 1: the others are in lists of their own
    await client.flushdb()
    await client.aclose()
    app.close()
    await probe.aclose()


async def test_a_worker_that_says_goodbye_asks_for_a_check_at_once(url: str, instance: str) -> None:
    """Known within a moment, not at the next look; and so is one that comes."""
    worker = await asyncio.to_thread(
        started, CeleryWorker, url, "tests.celery_app:app", node="passing@here", pool="solo", queues=["none"]
    )
    try:
        async with listening(probe_of(url, instance, workers=["passing@here"])) as watched:
            await eventually(lambda: _heard(watched), 5)
            assert (await watched.workers())["passing@here"] == 1
            woken = watched.woken
            await asyncio.to_thread(worker.stop)
            await eventually(lambda: watched.woken > woken, 5)
            with pytest.raises(AssertionFailed, match="no answer from passing@here on redis 127"):
                await watched.probe.check()
            assert (await watched.workers())["passing@here"] == 0
            woken = watched.woken
            await asyncio.to_thread(worker.start)
            await eventually(lambda: watched.woken > woken, 5)
            await eventually(watched.probe.check, 5)
    finally:
        await asyncio.to_thread(worker.close)


async def test_a_look_leaves_nothing_behind(server: Redis, instance: str) -> None:
    """The keys of a database that is not ours stay the application's."""
    probe = probe_of(server.url_of(5), instance, min_workers=0)
    async with listening(probe) as watched:
        await eventually(lambda: _heard(watched), 5)
        await look(probe)
        probe.drop(CHECK)
        await look(probe)
    client = Client.from_url(server.url_of(5))
    assert await client.keys() == []
    await client.aclose()


@pytest.mark.usefixtures("workers")
async def test_the_check_needs_no_listener(url: str, instance: str) -> None:
    """It answers from its own connection, also when nothing was ever heard."""
    probe = probe_of(url, instance)
    reading = await look(probe)
    assert reading.detail["workers"] == sorted(NAMES)
    assert reading.detail["events"] == "not heard yet"
    assert probe.counters()[1][0].metric.name != "celery_event_path_up"
    await probe.aclose()


async def test_two_hundred_connections_leave_nothing_open(server: Redis, instance: str) -> None:
    """A broker that comes and goes all day must not fill us up."""
    await reconnects_leave_nothing(probe_of(server.url_of(5), instance, min_workers=0), 67)
