"""Orders come from hand to hand or by way of RabbitMQ, and come again until they were acknowledged."""

import asyncio
from random import Random

import pytest

from exporter.demo.servers import RabbitMQ
from exporter.demo.trading.market import SYMBOLS, Market, Order
from exporter.demo.trading.orders import BrokerOrders, DirectOrders, Orders, OrdersLost

PATIENCE_SECONDS = 10.0


def test_a_market_moves_a_little_at_a_time() -> None:
    """Prices stay prices, whatever the randomness."""
    market = Market(Random(7))
    for _ in range(1000):
        symbol = market.tick()
        assert 0.2 * SYMBOLS[symbol] < market.prices[symbol] < 5 * SYMBOLS[symbol]
    order = market.order(market.opportunity())
    assert Order.decoded(order.encoded()) == order


@pytest.fixture(params=["direct", "broker"])
def orders(request: pytest.FixtureRequest) -> Orders:
    if request.param == "direct":
        return DirectOrders()
    server: RabbitMQ = request.getfixturevalue("rabbitmq_server")
    return BrokerOrders(server.url)


async def test_an_order_comes_again_until_it_is_acknowledged(orders: Orders) -> None:
    """Who took it may die before the trade is committed."""
    market = Market(Random(7))
    sent = [market.order(market.opportunity()) for _ in range(2)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with orders.taking():  # the queue is there now
            pass
        async with orders.sending() as send:
            for order in sent:
                await send(order)
        async with orders.taking() as take:
            assert (await take())[0] == sent[0]
        async with orders.taking() as take:
            for order in sent:
                again, acknowledge = await take()
                assert again == order
                await acknowledge()


async def test_a_broker_that_goes_is_noticed(rabbitmq_server: RabbitMQ) -> None:
    """A consumer that waits on a dead connection would wait for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS), BrokerOrders(rabbitmq_server.url).taking() as take:
        waiting = asyncio.create_task(take())
        await asyncio.to_thread(rabbitmq_server.control, "close_all_connections", "test")
        with pytest.raises(OrdersLost):
            await waiting
