"""Prices that wander, opportunities in them, and orders that take these. Pure: the randomness is passed in."""

import json
from dataclasses import asdict, dataclass
from random import Random
from uuid import UUID

SYMBOLS = {"BTCUSDT": 68_000.0, "ETHUSDT": 3_400.0, "SOLUSDT": 150.0}
"""What is traded, and the price it begins with."""


@dataclass(frozen=True, slots=True)
class Opportunity:
    """The same symbol at two prices; its id is also that of the order which takes it."""

    id: UUID
    symbol: str
    spread_percent: float


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of the desk; `id` is text, so that an order is JSON as it stands."""

    id: str
    symbol: str
    side: str
    fills: bool
    profit_usd: float

    def encoded(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decoded(cls, body: bytes) -> "Order":
        return cls(**json.loads(body))


class Market:
    """The prices of now; mutable."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.prices = dict(SYMBOLS)

    def tick(self) -> str:
        """Moves one price, and says whose."""
        symbol = self._rng.choice(list(SYMBOLS))
        self.prices[symbol] = round(self.prices[symbol] * self._rng.uniform(0.999, 1.001), 2)
        return symbol

    def opportunity(self) -> Opportunity:
        id_ = UUID(int=self._rng.getrandbits(128), version=4)
        return Opportunity(id_, self._rng.choice(list(SYMBOLS)), round(self._rng.uniform(0, 2), 3))

    def order(self, opportunity: Opportunity) -> Order:
        """The order that takes it: one in ten is not filled, one in five loses money."""
        fills, profit = self._rng.random() < 0.9, round(self._rng.uniform(-8, 32), 2)
        return Order(str(opportunity.id), opportunity.symbol, self._rng.choice(("buy", "sell")), fills, profit if fills else 0.0)
