"""Connections that a probe keeps: at most n, made on demand, one user at a time, dropped on any error or cancel.

Knows no driver: how to connect and to abort is passed in. The engine calls `drop(owner)` after a deadline, so that even a
driver that swallows its cancellation loses its socket and its place.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from exporter import phase
from exporter.errors import ProbeError
from exporter.model import Reason

C = TypeVar("C")


class Lease:
    """One place among the kept connections, taken by `owner`; mutable, owned by `Kept`."""

    __slots__ = ("_abort", "dropped", "owner")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.dropped = False
        self._abort: Callable[[], None] | None = None

    def hold(self, abort: Callable[[], None]) -> None:
        """Says how to abort what the owner now has open; a connect calls it as soon as it has a socket.

        On a lease that was dropped meanwhile, `abort` is called at once.
        """
        self._abort = abort
        if self.dropped:
            abort()

    def drop(self) -> None:
        self.dropped = True
        if self._abort is not None:
            self._abort()


class Kept(Generic[C]):
    """At most `limit` connections of type C.

    `connect(lease)` makes one (it must call `lease.hold`), `abort(c)` ends one at once without waiting and without raising,
    `alive(c)` says whether an idle one can still be used.
    """

    def __init__(
        self,
        limit: int,
        connect: Callable[[Lease], Awaitable[C]],
        *,
        abort: Callable[[C], None],
        alive: Callable[[C], bool],
    ) -> None:
        self.limit = limit
        self._connect = connect
        self._abort = abort
        self._alive = alive
        self._idle: list[C] = []
        self._leases: list[Lease] = []
        self._waiting: deque[tuple[asyncio.Future[None], Lease]] = deque()
        self._closed = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def used(self) -> int:
        return len(self._leases)

    @asynccontextmanager
    async def lease(self, owner: str) -> AsyncIterator[C]:
        """A connection for the block; waits for a place first come, first served. Any exception inside drops the connection."""
        lease = await self._take(owner)
        connection: C | None = None
        try:
            connection = self._reuse()
            if connection is None:
                connection = await self._connect(lease)
            kept = connection
            lease.hold(lambda: self._abort(kept))
            yield kept
        except BaseException:
            lease.drop()
            raise
        else:
            if not lease.dropped and not self._closed:
                self._idle.append(kept)
            elif not lease.dropped:
                lease.drop()
        finally:
            self._give_back(lease)

    def drop(self, owner: str) -> None:
        """Aborts what `owner` holds and frees its place, whether or not its task ever notices."""
        for lease in [lease for lease in self._leases if lease.owner == owner]:
            lease.drop()
            self._give_back(lease)

    def drop_idle(self) -> None:
        """Aborts the connections nobody uses: after a doubt about the path to the target."""
        while self._idle:
            self._abort(self._idle.pop())

    def close(self) -> None:
        """Aborts everything; connections still in use are aborted too, and none is kept any more."""
        self._closed = True
        for lease in list(self._leases):
            lease.drop()
        self.drop_idle()

    def _reuse(self) -> C | None:
        while self._idle:
            connection = self._idle.pop()
            if self._alive(connection):
                return connection
            self._abort(connection)
        return None

    async def _take(self, owner: str) -> Lease:
        if self._closed:
            raise ProbeError(Reason.RESET, "the probe has been closed", retryable=False)
        lease = Lease(owner)
        if len(self._leases) < self.limit and not self._waiting:
            self._leases.append(lease)
            return lease
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, lease))
        try:
            with phase.waiting("wait for a free connection"):
                await turn
        except asyncio.CancelledError:
            if (turn, lease) in self._waiting:
                self._waiting.remove((turn, lease))
            self._give_back(lease)  # our turn may have come: pass it on
            raise
        return lease

    def _give_back(self, lease: Lease) -> None:
        if lease in self._leases:
            self._leases.remove(lease)
            self._wake()

    def _wake(self) -> None:
        """Gives the free place to who has waited longest; it is taken from now on, though its owner has not run yet."""
        while self._waiting:
            turn, lease = self._waiting.popleft()
            if not turn.done():
                self._leases.append(lease)
                turn.set_result(None)
                return
