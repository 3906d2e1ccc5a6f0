"""Celery workers as the demo and the tests start them: real ones, that run tasks and leave nothing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from exporter.demo.servers import CeleryWorker, RabbitMQ, Redis
from tests.celery_app import application
from tests.servers import eventually, still_running

Starting = Callable[..., Awaitable[CeleryWorker]]

APP = "tests.celery_app:app"


def _send(url: str, name: str, *arguments: object, queue: str) -> None:
    application(url).send_task(name, arguments, queue=queue)


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
async def test_a_worker_runs_tasks(request: pytest.FixtureRequest, private_worker: Starting, broker: str) -> None:
    """It is Celery itself, on either broker; killed it comes back, closed it leaves nothing."""
    server: Redis | RabbitMQ = request.getfixturevalue(f"{broker}_server")
    worker = await private_worker(server.url, APP, queues=["launch"], node="w1@here")
    await asyncio.to_thread(_send, server.url, "shop.add", 1, 2, queue="launch")
    await eventually(lambda: worker.said("succeeded in"), 10)
    assert len(worker.processes) == 3
    worker.kill()
    worker.start()
    await asyncio.to_thread(_send, server.url, "shop.fail", queue="launch")
    await eventually(lambda: worker.said("raised unexpected: ValueError"), 10)
    pids = worker.processes
    worker.freeze()
    worker.close()
    assert (still_running(pids), worker.folder.exists()) == ([], False)


@pytest.mark.parametrize("pool", ["threads", "solo"])
async def test_pools_differ_and_nodes_are_named(redis_server: Redis, private_worker: Starting, pool: str) -> None:
    """A busy solo worker answers nobody: the probe's tests need one."""
    worker = await private_worker(redis_server.url, APP, queues=[pool], node=f"{pool}@here", pool=pool, events=False)
    replies = await asyncio.to_thread(application(redis_server.url).control.ping, [worker.node], timeout=5, limit=1)
    assert replies == [{worker.node: {"ok": "pong"}}]
    assert len(worker.processes) == 1
