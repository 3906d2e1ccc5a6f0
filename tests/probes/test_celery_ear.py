"""Settling what was heard from RabbitMQ, where a cancel comes in between."""

import asyncio
from typing import Any, cast

import pytest

from exporter.probes.celery.amqp import AmqpEar
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
