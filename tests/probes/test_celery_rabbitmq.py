"""Celery over RabbitMQ: real workers, a real broker, and what happens to them."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from statistics import median

import aio_pika
import pytest

from exporter.demo.servers import CeleryWorker, RabbitMQ
from exporter.demo.servers.rabbitmq import User
from exporter.errors import ProbeError
from exporter.model import Distribution, Reason
from tests.celery_app import application
from tests.celery_stage import Watched, listening, look, probe_of, reconnects_leave_nothing, workers_in
from tests.faults import Proxy
from tests.servers import eventually, started

GRANTED = User(
    "granted",
    "granted",
    configure=r"^exporter\.",
    write=r"^(exporter\.|amq\.default$|celery\.pidbox$)",
    read=r"^(exporter\.|celeryev$)",
)
NAMES = ("w1@here", "w2@here", "w3@here", "w4@here")

Send = Callable[[str, int], None]


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMQ]:
    """A node of our own: these tests block it, and give a user rights."""
    server = started(RabbitMQ, users=[GRANTED])
    yield server
    server.close()


def _worker(broker: RabbitMQ, node: str, *, events: bool = True) -> CeleryWorker:
    options = ("--without-mingle", "--without-gossip")
    return started(CeleryWorker, broker.url, "tests.celery_app:app", node=node, pool="solo", events=events, options=options)


@pytest.fixture(scope="module")
def workers(broker: RabbitMQ) -> Iterator[tuple[CeleryWorker, ...]]:
    """Four workers; the last one may be harmed."""
    with ThreadPoolExecutor(4) as pool:
        running = tuple(pool.map(lambda node: _worker(broker, node), NAMES))
    yield running
    for worker in running:
        worker.close()


@pytest.fixture
def send(broker: RabbitMQ) -> Iterator[Send]:
    """Has the application call a task so many times; blocks."""
    app = application(broker.url)

    def call(name: str, times: int) -> None:
        for _ in range(times):
            app.send_task(name, (1, 2) if name == "shop.add" else ())

    yield call
    app.close()


@pytest.fixture
def instance() -> str:
    """A name of the test's own for what it leaves on the broker."""
    return f"test-{secrets.token_hex(3)}"


def _heard(watched: Watched) -> bool:
    return watched.path_up == 1


@pytest.mark.usefixtures("workers")
async def test_a_hundred_successes_and_ten_failures_are_counted_exactly(broker: RabbitMQ, send: Send, instance: str) -> None:
    """No event more, none less, each with its name, its queue and its duration."""
    async with listening(probe_of(broker.url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        await asyncio.to_thread(send, "shop.add", 100)
        await asyncio.to_thread(send, "shop.fail", 10)
        await eventually(lambda: watched.tasks(name="shop.fail").get("failed") == 10, 20)
        await eventually(lambda: watched.tasks(name="shop.add").get("succeeded") == 100, 20)
        added = {"sent": 100, "received": 100, "started": 100, "succeeded": 100}
        failed = {"sent": 10, "received": 10, "started": 10, "failed": 10}
        await eventually(lambda: watched.tasks(name="shop.add") == added, 5)
        await eventually(lambda: watched.tasks(name="shop.fail") == failed, 5)
        assert len(watched.all_tasks()) == len(added) + len(failed)
        for name, state, count in (("shop.add", "succeeded", 100), ("shop.fail", "failed", 10)):
            durations = watched.durations(name, state)
            assert durations.count == count
            assert 0 < durations.sum < 10


@pytest.mark.usefixtures("workers")
async def test_what_ran_while_we_were_away_is_counted_exactly_once(broker: RabbitMQ, send: Send, instance: str) -> None:
    """The queue waits for us: the next process counts the events of the gap, and none that the last one has counted."""
    async with listening(probe_of(broker.url, instance)) as first:
        await eventually(lambda: _heard(first), 5)
        await asyncio.to_thread(send, "shop.add", 30)
        before = dict.fromkeys(("sent", "received", "started", "succeeded"), 30)
        await eventually(lambda: first.tasks(name="shop.add") == before, 20)  # `sent` is the sender's word, and may come last
    witness = probe_of(broker.url, f"{instance}-witness")
    async with listening(witness) as seen:
        await eventually(lambda: _heard(seen), 5)
        await asyncio.to_thread(send, "shop.add", 150)
        await eventually(lambda: seen.tasks(name="shop.add").get("succeeded") == 150, 20)
    async with listening(probe_of(broker.url, instance)) as second:
        await eventually(lambda: second.tasks(name="shop.add").get("succeeded") == 150, 10)
        await eventually(lambda: _heard(second), 5)
        assert second.tasks(name="shop.add") == dict.fromkeys(("sent", "received", "started", "succeeded"), 150)
        assert len(second.all_tasks()) == 4


@pytest.mark.usefixtures("workers")
async def test_a_ping_of_four_known_workers_takes_no_more_than_their_answers(broker: RabbitMQ, instance: str) -> None:
    """Whoever waits a whole second for answers that are all there cannot look often."""
    probe = probe_of(broker.url, instance, workers=list(NAMES))
    await look(probe)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        assert workers_in(await look(probe)) == dict.fromkeys(NAMES, 1)
        took.append(time.perf_counter() - began)
    await probe.aclose()
    print(f"check of four workers: median {median(took) * 1000:.1f} ms, worst {max(took) * 1000:.1f} ms")
    assert median(took) < 0.02


@pytest.mark.usefixtures("workers")
async def test_a_deaf_listener_says_so_and_the_workers_stay_up(broker: RabbitMQ, send: Send, instance: str) -> None:
    """Half-open connections are silent for good: heard of by our own nonce; what happened meanwhile is counted afterwards."""
    async with Proxy(broker.port) as proxy:
        through = broker.url.replace(str(broker.port), str(proxy.port))
        async with listening(probe_of(through, instance)) as watched:
            await eventually(lambda: _heard(watched), 5)
            assert set((await watched.workers()).values()) == {1}
            proxy.half_open()
            began = time.monotonic()
            await asyncio.to_thread(send, "shop.add", 20)
            with pytest.raises((ProbeError, TimeoutError)):  # the check's own connection is silent too, once
                await look(watched.probe)
            watched.probe.drop("check")
            while watched.path_up:
                assert await watched.workers() == dict.fromkeys(NAMES, 1)
                assert time.monotonic() - began < 6
            assert (await look(watched.probe)).detail["events"] != "heard"
            await eventually(lambda: _heard(watched), 10)
            assert await watched.workers() == dict.fromkeys(NAMES, 1)
            proxy.reset()  # as the broker ends the silent connection once it has missed its heartbeats; what it held comes back
            await eventually(lambda: watched.tasks(name="shop.add").get("succeeded") == 20, 10)
            assert watched.tasks(name="shop.add") == dict.fromkeys(("sent", "received", "started", "succeeded"), 20)


@pytest.mark.usefixtures("workers")
async def test_a_second_consumer_on_the_event_queue_degrades(broker: RabbitMQ, instance: str) -> None:
    """Two exporters of one instance would each count a part, and neither would be right."""
    async with listening(probe_of(broker.url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        assert (await look(watched.probe)).degraded is None
        async with _second_consumer(broker.url, f"exporter.{instance}.events"):
            reading = await look(watched.probe)
            assert reading.degraded is Reason.CONFIG
            assert "second consumer" in str(reading.message)
        assert (await look(watched.probe)).degraded is None


@asynccontextmanager
async def _second_consumer(url: str, queue: str) -> AsyncIterator[None]:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await (await channel.get_queue(queue)).consume(_keep)
        yield


async def _keep(_: aio_pika.abc.AbstractIncomingMessage) -> None:
    """Takes a message and never acknowledges it: it goes back when the consumer goes."""


@pytest.mark.usefixtures("workers")
async def test_the_granted_rights_are_enough(broker: RabbitMQ, instance: str) -> None:
    """All our names begin with `exporter.`, so one pattern covers them; nothing of the application can be written."""
    url = broker.url_of(user=GRANTED.name, password=GRANTED.password)
    async with listening(probe_of(url, instance, queues=["celery"])) as watched:
        await eventually(lambda: _heard(watched), 5)
        assert await watched.workers() == dict.fromkeys(NAMES, 1)
        (collector,) = watched.probe.collectors()
        assert [row[0] for row in (await collector.run()).families[0].rows] == [("celery",)]
        assert watched.ended == []


async def test_nothing_among_the_events_can_stop_the_listener(broker: RabbitMQ, instance: str) -> None:
    """A pickle is never opened; what cannot be read is counted by reason, and the next event is heard."""
    bad = [
        (b"cos\nsystem\n(S'false'\ntR.", "application/x-python-serialize"),
        (b"- 1", "application/x-yaml"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"9" * 5000, "application/json"),
        (b'{"type": "task-started"}', "application/json"),
        (b'[3, {"type": 4}]', "application/json"),
        (b'"' + b"x" * 1_100_000 + b'"', "application/json"),
    ]
    good = b'{"type": "task-started", "uuid": "u", "hostname": "w@h", "timestamp": "yesterday"}'
    async with listening(probe_of(broker.url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        connection = await aio_pika.connect(broker.url)
        async with connection:
            exchange = await (await connection.channel()).get_exchange("celeryev")
            for body, content_type in (*bad, (good, "application/json")):
                await exchange.publish(aio_pika.Message(body, content_type=content_type), routing_key="task.started")
        await eventually(lambda: watched.tasks(name="unknown", queue="unknown") == {"started": 1}, 5)
        assert watched.rejected() == {"content_type": 2, "not_json": 3, "not_an_event": 3, "too_large": 1}
        assert watched.ended == []


async def test_two_hundred_connections_leave_nothing_open(broker: RabbitMQ, instance: str) -> None:
    """A broker that comes and goes all day must not fill us up."""
    await reconnects_leave_nothing(probe_of(broker.url, instance, min_workers=0), 67)


async def test_task_events_are_switched_on_also_for_workers_that_come_later(broker: RabbitMQ, send: Send, instance: str) -> None:
    """Without -E a worker tells nothing of its tasks; with the switch it does, before its first one if it was there before us."""
    silent = await asyncio.to_thread(_worker, broker, "silent@here", events=False)
    try:
        async with listening(probe_of(broker.url, instance, enable_task_events=True, workers=["silent@here"])) as watched:
            await eventually(lambda: _heard(watched), 5)
            await _until_told_by(watched, "silent@here", send)
            await asyncio.to_thread(silent.restart)
            await _until_told_by(watched, "silent@here", send)
            assert (await look(watched.probe)).detail["task_events"] == "on"
    finally:
        await asyncio.to_thread(silent.close)


async def _until_told_by(watched: Watched, hostname: str, send: Send) -> None:
    """Sends tasks until one has run on that worker and was told of: others may take some."""
    workers = watched.probe._known.workers._workers
    workers[hostname].task_events = None

    async def told() -> bool:
        await asyncio.to_thread(send, "shop.add", 5)
        return workers[hostname].task_events is True

    await eventually(told, 25)


async def _is_blocked(watched: Watched) -> bool:
    """The alarm reaches the broker's connections a moment after it is set."""
    try:
        await watched.probe.check()
    except ProbeError as error:
        watched.probe.drop("check")
        return error.reason is Reason.BLOCKED
    return False


@pytest.mark.usefixtures("workers")
async def test_a_broker_that_takes_no_messages_is_blocked_and_the_workers_stay(broker: RabbitMQ, instance: str) -> None:
    """A memory alarm silences workers and us alike: that says nothing of the workers."""
    async with listening(probe_of(broker.url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        assert await watched.workers() == dict.fromkeys(NAMES, 1)
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "0")
        try:
            await eventually(lambda: _is_blocked(watched), 5)
            for _ in range(2):
                with pytest.raises(ProbeError, match="takes no messages") as caught:
                    await watched.probe.check()
                watched.probe.drop("check")
                assert caught.value.reason is Reason.BLOCKED
                assert caught.value.reading is None
            await eventually(lambda: watched.path_up == 0, 6)
            await eventually(lambda: watched.ended, 6)
            assert {error.reason for error in watched.ended} == {Reason.BLOCKED}
        finally:
            await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "0.4")
        await eventually(lambda: _heard(watched), 10)
        assert await watched.workers() == dict.fromkeys(NAMES, 1)


async def test_a_killed_worker_is_down_within_eighteen_seconds_and_its_series_stays(
    broker: RabbitMQ, workers: tuple[CeleryWorker, ...], instance: str
) -> None:
    """Nobody says goodbye: its heartbeat stops, the listener asks for a check, and that gets no answer."""
    async with listening(probe_of(broker.url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        assert await watched.workers() == dict.fromkeys(NAMES, 1)
        await eventually(lambda: watched.probe._known.workers._workers[NAMES[3]].beat is not None, 5)
        workers[3].kill()
        began, woken = time.monotonic(), watched.woken
        await eventually(lambda: watched.woken > woken, 12)
        up = await watched.workers()
        took = time.monotonic() - began
        print(f"killed worker down after {took:.1f} s")
        assert took < 18
        assert up == {**dict.fromkeys(NAMES[:3], 1), NAMES[3]: 0}
        reading = await look(watched.probe)
        assert reading.detail["workers_down"] == [NAMES[3]]


@pytest.mark.usefixtures("workers")
async def test_a_retried_task_counts_its_runs_apart(broker: RabbitMQ, send: Send, instance: str) -> None:
    """It runs twice: retried once, then failed, each with the time it took."""
    async with listening(probe_of(broker.url, instance)) as watched:
        await eventually(lambda: _heard(watched), 5)
        await asyncio.to_thread(send, "shop.stubborn", 1)
        # another worker may run it the second time, and be heard first
        ended = {"failed": 1, "retried": 1}
        await eventually(lambda: ended.items() <= watched.tasks(name="shop.stubborn").items(), 10)
        assert isinstance(watched.durations("shop.stubborn", "retried"), Distribution)
        assert watched.durations("shop.stubborn", "failed").count == 1
