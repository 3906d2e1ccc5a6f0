"""What the platform does, by itself run as `python -m exporter.demo.trading.platform`: prices, opportunities, orders, trades.

Its environment names DATABASE_URL, REDIS_URL, CELERY_BROKER_URL and, where there are any, RABBITMQ_URL and TRADING_LEDGER. Its
tables and its queue are made where they are missing. A server that is away is waited for, again and again. SIGTERM ends it
after what it is at.
"""

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import NoReturn
from uuid import UUID

import asyncpg
import redis.asyncio
import redis.exceptions
from kombu.exceptions import OperationalError

from exporter.demo.trading.ledger import Deed, Ledger
from exporter.demo.trading.market import Market, Opportunity, Order
from exporter.demo.trading.orders import BROKER_AWAY, BrokerOrders, DirectOrders, Orders, Taken
from exporter.demo.trading.schema import TABLES
from exporter.demo.trading.settlement import SETTLE, app

PAUSE_SECONDS = 0.3
PATIENCE_SECONDS = 2.0
PRICE_SECONDS = 30
"""How long a price is good for."""
TICKS_KEPT = 1000
OPEN_AT_ONCE = 5
HISTORY = 200
"""Trades that a new platform has behind it."""
REMEMBERED = 1000
"""Trades by which an order that comes again is known: many more than are ever unacknowledged."""
END_SECONDS = 3.0

_AWAY = (
    *BROKER_AWAY,
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, redis.exceptions.RedisError, OperationalError),
)

_PUBLISHING = {"max_retries": 2, "interval_start": 0, "interval_step": 0.5}
"""A connection that has lain idle may be dead without anybody knowing (Celery, "Message Sending Retry")."""

Database = asyncpg.Connection


class Platform:
    """What the process does; mutable. Its parts run side by side, each with connections of its own."""

    def __init__(self, environment: Mapping[str, str], rng: Random) -> None:
        self._database_url, self._redis_url = environment["DATABASE_URL"], environment["REDIS_URL"]
        self._market = Market(rng)
        self._ledger = Ledger.named_by(environment)
        broker = environment.get("RABBITMQ_URL")
        self._orders: Orders = BrokerOrders(broker) if broker else DirectOrders()
        deeds = list(self._ledger.deeds())
        self._traded = deque((deed.id for deed in deeds if deed.kind == "trade"), REMEMBERED)
        opened = [deed for deed in deeds if deed.kind == "opportunity" and deed.state == "opened"]
        closed = {deed.id for deed in deeds if deed.kind == "opportunity" and deed.state == "closed"}
        self._open = [Opportunity(UUID(deed.id), deed.name, 0.0) for deed in opened if deed.id not in closed]
        self._next: Opportunity | None = None
        self._history: list[Order] | None = None
        self._making = asyncio.Lock()
        self.ending = asyncio.Event()

    async def run(self) -> None:
        """Trades until `ending` is set, or for three seconds more where something hangs then."""
        parts = [asyncio.create_task(self._again(part)) for part in (self._tick, self._seek, self._execute)]
        await asyncio.wait((*parts, asyncio.create_task(self.ending.wait())), return_when=asyncio.FIRST_COMPLETED)
        _, hanging = await asyncio.wait(parts, timeout=END_SECONDS if self.ending.is_set() else 0)
        for part in parts:
            if part not in hanging:
                part.result()

    async def _again(self, part: Callable[[], Awaitable[None]]) -> None:
        while not self.ending.is_set():
            with suppress(*_AWAY):
                await part()
            await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ending.wait(), PAUSE_SECONDS)

    async def _tick(self) -> None:
        """A price moves: its key, and an entry of the stream `ticks`."""
        async with redis.asyncio.Redis.from_url(
            self._redis_url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
        ) as prices:
            while not self.ending.is_set():
                symbol = self._market.tick()
                price = self._market.prices[symbol]
                await prices.set(f"price:{symbol}", price, ex=PRICE_SECONDS)
                await prices.xadd("ticks", {"symbol": symbol, "price": price}, maxlen=TICKS_KEPT)
                await self._pause()

    async def _seek(self) -> None:
        """An opportunity is found and an order sent for it; the oldest ones pass."""
        async with self._database() as database, self._orders.sending() as send:
            await self._close_forgotten(database)
            while not self.ending.is_set():
                await send(self._market.order(await self._open_one(database)))
                while len(self._open) > OPEN_AT_ONCE:
                    await self._close_one(database)
                await self._pause()

    async def _open_one(self, database: Database) -> Opportunity:
        """Whether a statement that was interrupted took place is not known: so it is tried again under the same id."""
        found = self._next = self._next or self._market.opportunity()
        await database.execute(
            """INSERT INTO opportunities (id, symbol, status, spread_percent) VALUES ($1, $2, 'active', $3::float8)
               ON CONFLICT DO NOTHING""",
            *(found.id, found.symbol, found.spread_percent),
        )
        self._ledger.record(Deed("opportunity", "opened", found.symbol, str(found.id)))
        self._next = None
        self._open.append(found)
        return found

    async def _close_forgotten(self, database: Database) -> None:
        """What an earlier run left open without a note of it would stay open for ever."""
        known = [opportunity.id for opportunity in (*self._open, self._next) if opportunity]
        await database.execute("UPDATE opportunities SET status = 'closed' WHERE status = 'active' AND id <> ALL($1)", known)

    async def _close_one(self, database: Database) -> None:
        passed = self._open[0]
        await database.execute("UPDATE opportunities SET status = 'closed' WHERE id = $1", passed.id)
        self._ledger.record(Deed("opportunity", "closed", passed.symbol, str(passed.id)))
        del self._open[0]

    async def _execute(self) -> None:
        """Each order becomes a trade, and a task that settles it where it was filled."""
        async with self._database() as database, self._orders.taking() as take:
            await self._have_history(database)
            while taken := await self._unless_ending(take()):
                order, acknowledge = taken
                await self._trade(database, order)
                if order.fills:
                    await asyncio.to_thread(app.send_task, SETTLE, (order.id,), retry_policy=_PUBLISHING)
                await acknowledge()

    async def _have_history(self, database: Database) -> None:
        """Some trades for a platform that has none. Kept until they are written, so that they are tried again as they were."""
        if self._history is None:
            new = await database.fetchval("SELECT NOT EXISTS (SELECT FROM trades)")
            self._history = [self._market.order(self._market.opportunity()) for _ in range(HISTORY if new else 0)]
        await self._trade(database, *self._history)
        self._history = []

    async def _unless_ending(self, taking: Coroutine[object, object, Taken]) -> Taken | None:
        task, ending = asyncio.create_task(taking), asyncio.create_task(self.ending.wait())
        await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None

    async def _trade(self, database: Database, *orders: Order) -> None:
        """Writes trades, and into the ledger once they are committed; those of orders that come again but once."""
        async with database.transaction():
            await database.executemany(
                """INSERT INTO trades (order_id, symbol, status, side, profit_usd) VALUES ($1, $2, $3, $4, $5::float8)
                   ON CONFLICT DO NOTHING""",
                [(UUID(order.id), order.symbol, _status(order), order.side, order.profit_usd) for order in orders],
            )
        new = [order for order in orders if order.id not in self._traded]
        self._ledger.record(*(Deed("trade", _status(order), order.symbol, order.id) for order in new))
        self._traded.extend(order.id for order in new)

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[Database]:
        """A connection to a database that has the tables."""
        connection = await asyncpg.connect(
            self._database_url, ssl=False, timeout=PATIENCE_SECONDS, command_timeout=PATIENCE_SECONDS
        )
        try:
            async with self._making:
                for table in TABLES:
                    await connection.execute(table)
            yield connection
        finally:
            connection.terminate()


def _status(order: Order) -> str:
    return "executed" if order.fills else "failed"


def main() -> NoReturn:
    """Trades until SIGTERM, and three seconds later at the latest ends the process."""
    asyncio.run(_trade_and_end())


async def _trade_and_end() -> NoReturn:
    platform = Platform(os.environ, Random())  # noqa: S311  # prices, no secrets
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, platform.ending.set)
    await platform.run()
    os._exit(0)  # the end of the loop would wait for a thread that hangs in a frozen broker


if __name__ == "__main__":
    main()
