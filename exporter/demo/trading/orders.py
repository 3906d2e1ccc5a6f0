"""How orders come from who sends them to who executes them: by way of RabbitMQ, or at hand where there is none.

Either way an order is given again until it was acknowledged.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from exporter.demo.trading.market import Order

EXCHANGE, QUEUE = "trading", "orders"
PREFETCH = 5
PATIENCE_SECONDS = 3.0
HEARTBEAT_SECONDS = 5

Send = Callable[[Order], Awaitable[None]]
Taken = tuple[Order, Callable[[], Awaitable[None]]]
"""An order, and what acknowledges it."""
Take = Callable[[], Coroutine[object, object, Taken]]


BROKER_AWAY = (OSError, TimeoutError, AMQPError, ChannelInvalidStateError)
"""What either end may raise while the broker is away; the last is what is said of a channel whose connection has ended."""


class OrdersLost(ConnectionError):
    """The broker has gone."""


class Orders(Protocol):
    """Both ends. What goes wrong with a broker is one of BROKER_AWAY."""

    def sending(self) -> AbstractAsyncContextManager[Send]: ...

    def taking(self) -> AbstractAsyncContextManager[Take]: ...


class BrokerOrders:
    """Through the exchange `trading` and the queue `orders`, durable both, each order confirmed by the broker."""

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        async with self._channel() as channel:
            exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)

            async def send(order: Order) -> None:
                message = aio_pika.Message(order.encoded(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await exchange.publish(message, routing_key=f"order.{order.symbol}")

            yield send

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[Take]:
        arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        async with self._channel(lambda: arrived.put_nowait(None)) as channel:
            await channel.set_qos(PREFETCH)
            exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
            queue = await channel.declare_queue(QUEUE, durable=True)
            await queue.bind(exchange, "order.*")
            await queue.consume(arrived.put)

            async def take() -> Taken:
                message = await arrived.get()
                if message is None:
                    raise OrdersLost(f"queue {QUEUE}: the broker has gone")
                return Order.decoded(message.body), message.ack

            yield take

    @asynccontextmanager
    async def _channel(self, on_loss: Callable[[], None] = lambda: None) -> AsyncIterator[AbstractChannel]:
        connection = await aio_pika.connect(self._url, timeout=PATIENCE_SECONDS, heartbeat=HEARTBEAT_SECONDS)
        connection.close_callbacks.add(lambda *_: on_loss())
        try:
            yield await connection.channel()
        finally:
            await connection.close()


class DirectOrders:
    """At hand, in the memory of one process."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Order] = asyncio.Queue()
        self._unacknowledged: Order | None = None

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Send]:
        yield self._waiting.put

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[Take]:
        async def take() -> Taken:
            if self._unacknowledged is None:
                self._unacknowledged = await self._waiting.get()
            return self._unacknowledged, acknowledge

        async def acknowledge() -> None:
            self._unacknowledged = None

        yield take
