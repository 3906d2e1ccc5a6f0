"""The small rules of the Celery probe over RabbitMQ that no broker is needed for: settling once, and looking again."""

import asyncio
from typing import Any, cast

import pytest

from exporter.probes.celery.amqp import AmqpEar, Missing
from exporter.probes.celery.broker import Names


class Slow:
    """A channel whose acknowledgement is written, but never drained."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    async def acknowledge(self, tag: int, *, multiple: bool) -> None:
        self.acknowledged.append(tag)
        await asyncio.Event().wait()


async def test_what_was_settled_when_a_cancel_came_is_not_settled_again() -> None:
    """The broker ends a channel on which a tag is settled twice (406; AMQP 0-9-1, basic.ack)."""
    channel = Slow()
    ear = AmqpEar(cast(Any, None), cast(Any, channel), Names("test", "celery"))
    ear._unsettled = 7  # as after hear()
    task = asyncio.create_task(ear.settle())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ear.settle()
    assert channel.acknowledged == [7]


def test_a_missing_queue_is_looked_for_again_soon_and_then_seldom() -> None:
    """Workers make their queue when they start, maybe just after us; one that is misspelt must not fill the broker's log."""
    missing = Missing()
    now, waits = 0.0, []
    for _ in range(6):
        missing.missed("celery", now)
        began = now
        while missing.is_left_alone("celery", now):
            now += 1.0
        waits.append(now - began)
    assert waits == [4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    missing.found("celery")
    missing.missed("celery", now)
    assert not missing.is_left_alone("celery", now + 4.0)
