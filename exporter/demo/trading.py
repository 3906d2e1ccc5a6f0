"""The application that nobody instrumented: its tables, and a trickle of trades and opportunities into them."""

import asyncio
from contextlib import suppress

import asyncpg

PAUSE_SECONDS = 0.3
PATIENCE_SECONDS = 2.0


def seed(role: str, password: str) -> tuple[str, ...]:
    """Statements that make the tables with a little history, and a role that may look at them and at the server, no more."""
    return (
        """CREATE TABLE trades (id bigserial PRIMARY KEY, symbol text NOT NULL, status text NOT NULL, side text NOT NULL,
           profit_usd numeric NOT NULL, executed_at timestamptz NOT NULL DEFAULT now())""",
        """CREATE TABLE opportunities (id bigserial PRIMARY KEY, symbol text NOT NULL, status text NOT NULL,
           spread_percent numeric NOT NULL, created_at timestamptz NOT NULL DEFAULT now())""",
        f"INSERT INTO trades (symbol, status, side, profit_usd) {_TRADE} FROM generate_series(1, 500)",
        f"INSERT INTO opportunities (symbol, status, spread_percent) {_OPPORTUNITY} FROM generate_series(1, 6)",
        f"CREATE ROLE {role} LOGIN PASSWORD '{password}'",
        f"GRANT pg_monitor TO {role}",
        f"GRANT SELECT ON trades, opportunities TO {role}",
    )


_SYMBOL = "(ARRAY['BTCUSDT', 'ETHUSDT', 'SOLUSDT'])[1 + floor(random() * 3)]"
_TRADE = f"""SELECT {_SYMBOL}, CASE WHEN random() < 0.9 THEN 'executed' ELSE 'failed' END,
    CASE WHEN random() < 0.5 THEN 'buy' ELSE 'sell' END, round((random() * 40 - 8)::numeric, 2)"""
_OPPORTUNITY = f"SELECT {_SYMBOL}, 'active', round((random() * 2)::numeric, 3)"

_MOMENT = (
    f"INSERT INTO trades (symbol, status, side, profit_usd) {_TRADE}",
    f"INSERT INTO opportunities (symbol, status, spread_percent) {_OPPORTUNITY}",
    # Each is taken or missed in the end; about one a moment, so that a handful stays open.
    "UPDATE opportunities SET status = 'closed' WHERE status = 'active' AND random() < 0.15",
)


_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a statement on a connection that is being lost: "cannot switch to state 15"
)


async def trade(url: str) -> None:
    """Trades for ever, a few times a second; while the database is away it tries again and again, as the real one would."""
    while True:
        with suppress(*_AWAY):
            await _trade_while_it_lasts(url)
        await asyncio.sleep(PAUSE_SECONDS)


async def _trade_while_it_lasts(url: str) -> None:
    connection = await asyncpg.connect(url, ssl=False, timeout=PATIENCE_SECONDS, command_timeout=PATIENCE_SECONDS)
    try:
        while True:
            for statement in _MOMENT:
                await connection.execute(statement)
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        connection.terminate()
