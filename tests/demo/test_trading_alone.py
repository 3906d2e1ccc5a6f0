"""The trading platform as one process, by itself: what it makes, what it finds again, and how it says that it cannot listen."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from exporter.demo.servers import HOST, Program, Redis, reserve_port
from exporter.demo.servers.python import python, python_path
from exporter.demo.trading.ledger import Deed, Ledger
from exporter.demo.trading.platform import HISTORY, OPEN_AT_ONCE
from tests.servers import eventually, fetch

PATIENCE_SECONDS = 20.0
GRACE_SECONDS = 10.0


class Trading(Program):
    """`python -m exporter.demo.trading` without RabbitMQ and without a ledger."""

    name = "trading"

    def __init__(self, database: str, cache: str, port: int, broker: str = "") -> None:
        super().__init__()
        reached = {"DATABASE_URL": database, "REDIS_URL": cache, "CELERY_BROKER_URL": broker or cache}
        self._variables = {**reached, "TRADING_LISTEN": f"{HOST}:{port}"}

    def command(self) -> list[str]:
        return python("exporter.demo.trading")

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path() | self._variables

    def is_ready(self) -> bool:
        return True


@pytest.fixture
async def cache(redis_server: Redis) -> AsyncIterator[str]:
    """The URL of an empty database of this worker's Redis."""
    url = redis_server.url_of(9)
    yield url
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.flushdb()


async def _open(database: str) -> set[object]:
    return {id_ for (id_,) in await fetch(database, "SELECT id FROM opportunities WHERE status = 'active'")}


async def _trades(database: str) -> int:
    ((count,),) = await fetch(database, "SELECT count(*) FROM trades")
    return int(count)


async def test_a_new_start_goes_on_with_what_it_finds(database: str, cache: str) -> None:
    """A container is started again and again: no second history, and nothing stays open that nobody would close."""
    with reserve_port() as reserved:
        trading = Trading(database, cache, reserved.getsockname()[1])
        try:
            await asyncio.to_thread(trading.start)
            await eventually(lambda: _has(database, HISTORY + 1), PATIENCE_SECONDS)
            await asyncio.to_thread(trading.kill)
            left, traded = await _open(database), await _trades(database)
            assert left
            await asyncio.to_thread(trading.start)
            await eventually(lambda: _has(database, traded + 2), PATIENCE_SECONDS)
            assert await _trades(database) < traded + HISTORY
            now_open = await _open(database)
            assert not now_open & left
            assert len(now_open) <= OPEN_AT_ONCE + 1
        finally:
            await asyncio.to_thread(trading.close)


async def _has(database: str, trades: int) -> bool:
    """Whether there are so many; the tables may be still to come."""
    if not await fetch(database, "SELECT FROM pg_tables WHERE tablename = 'trades'"):
        return False
    return await _trades(database) >= trades


async def test_it_ends_while_a_thread_of_it_hangs(database: str, cache: str) -> None:
    """Docker kills what has not ended after ten seconds, and a kill is an order in doubt."""
    with reserve_port() as reserved, reserve_port() as broker:
        broker.listen()
        broker.settimeout(PATIENCE_SECONDS)
        trading = Trading(database, cache, reserved.getsockname()[1], f"redis://{HOST}:{broker.getsockname()[1]}")
        try:
            await asyncio.to_thread(trading.start)
            hanging, _ = await asyncio.to_thread(broker.accept)
            with hanging:
                began = time.monotonic()
                await asyncio.to_thread(trading.stop, 2 * GRACE_SECONDS)
                assert time.monotonic() - began < GRACE_SECONDS
        finally:
            await asyncio.to_thread(trading.close)


async def test_an_address_that_is_taken_ends_it(database: str, cache: str) -> None:
    """A platform that trades and answers nobody would be down for whoever asks, and up for Docker."""
    with reserve_port() as reserved:
        reserved.listen()
        trading = Trading(database, cache, reserved.getsockname()[1])
        try:
            trading.launch()
            await eventually(lambda: not trading.running, PATIENCE_SECONDS)
            assert trading.said("Address already in use")
        finally:
            await asyncio.to_thread(trading.close)


def test_without_a_name_nothing_is_kept(tmp_path: Path) -> None:
    """A ledger that nobody reads would fill the disk of whoever runs the platform for weeks."""
    for environment in ({}, {"TRADING_LEDGER": ""}):
        ledger = Ledger.named_by(environment)
        ledger.record(Deed("trade", "executed", "BTCUSDT", "1"))
        assert list(ledger.deeds()) == []
    named = {"TRADING_LEDGER": str(tmp_path / "ledger")}
    Ledger.named_by(named).record(Deed("trade", "executed", "BTCUSDT", "1"))
    assert list(Ledger.named_by(named).deeds()) == [Deed("trade", "executed", "BTCUSDT", "1")]
