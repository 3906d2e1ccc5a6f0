"""The Celery application that settles trades. The worker finds its broker, the database and the ledger, if
there is to be one, in the environment.

It is an ordinary worker with ordinary tasks; Celery's own hooks keep the ledger.
"""

import asyncio
import os
from collections.abc import Mapping
from uuid import UUID

import asyncpg
from celery import Celery, Task

from exporter.demo.trading.ledger import Deed, Ledger

SETTLE = "trading.settle"
PATIENCE_SECONDS = 2.0
AGAIN_SECONDS = 1
TIMES = 5

app = Celery("trading", broker=os.environ.get("CELERY_BROKER_URL", "memory://"))
app.conf.update(
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=PATIENCE_SECONDS,
    broker_transport_options={"visibility_timeout": 3600},
)


class SettlementRefused(Exception):
    """The clearing house does not take this trade."""


class Noted(Task):  # type: ignore[type-arg]  # generic in the stubs alone
    """Notes in the ledger how each of its runs ended."""

    def on_success(self, retval: object, task_id: str, args: object, kwargs: object) -> None:
        self._note("succeeded", task_id)

    def on_failure(self, exc: Exception, task_id: str, args: object, kwargs: object, einfo: object) -> None:
        self._note("failed", task_id)

    def on_retry(self, exc: Exception, task_id: str, args: object, kwargs: object, einfo: object) -> None:
        self._note("retried", task_id)

    def _note(self, state: str, task_id: str) -> None:
        Ledger.named_by(os.environ).record(Deed("task", state, str(self.name), task_id))


@app.task(base=Noted, name=SETTLE, bind=True, max_retries=TIMES)
def settle(self: Noted, order_id: str) -> None:
    """Settles one trade; about one in sixteen is refused, and a database that is away is waited for."""
    if order_id.startswith("7"):
        raise SettlementRefused(f"order {order_id}: refused by the clearing house")
    try:
        asyncio.run(_mark(os.environ, UUID(order_id)))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise self.retry(exc=ConnectionError(str(error)), countdown=AGAIN_SECONDS) from None


async def _mark(environment: Mapping[str, str], order_id: UUID) -> None:
    connection = await asyncpg.connect(
        environment["DATABASE_URL"], ssl=False, timeout=PATIENCE_SECONDS, command_timeout=PATIENCE_SECONDS
    )
    try:
        await connection.execute("UPDATE trades SET settled_at = now() WHERE order_id = $1", order_id)
    finally:
        connection.terminate()
