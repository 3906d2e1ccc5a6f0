"""Kept connections: the bound, the turn, and what becomes of a connection after an error, a cancel or a drop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from exporter.drivers.kept import Kept, Lease
from exporter.errors import ProbeError


class Connection:
    """Stands for a driver's connection."""

    def __init__(self) -> None:
        self.open = True

    def abort(self) -> None:
        self.open = False


class Target:
    """Makes connections and remembers them; `hang` lets connecting wait for ever, `deaf` lets it swallow a cancel."""

    def __init__(self, limit: int) -> None:
        self.made: list[Connection] = []
        self.hang = False
        self.deaf = False
        self.kept = Kept(limit, self.connect, abort=Connection.abort, alive=lambda connection: connection.open)

    async def connect(self, lease: Lease) -> Connection:
        connection = Connection()
        self.made.append(connection)
        lease.hold(connection.abort)
        try:
            if self.hang:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not self.deaf:
                raise
        return connection

    @property
    def open(self) -> int:
        return sum(connection.open for connection in self.made)

    @asynccontextmanager
    async def busy(self, owner: str) -> AsyncIterator[asyncio.Event]:
        """A lease held by a task of its own until the event is set."""
        done, held = asyncio.Event(), asyncio.Event()

        async def use() -> None:
            async with self.kept.lease(owner):
                held.set()
                await done.wait()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(use())
            await held.wait()
            try:
                yield done
            finally:
                done.set()


async def ticks(count: int = 5) -> None:
    """Lets every task that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_good_connection_is_used_again() -> None:
    """Connecting costs the server a process: it happens once."""
    target = Target(1)
    for _ in range(3):
        async with target.kept.lease("a"):
            assert (target.kept.used, target.kept.idle) == (1, 0)
    assert len(target.made) == 1
    assert (target.kept.used, target.kept.idle) == (0, 1)


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()])
async def test_any_exception_drops_the_connection(error: BaseException) -> None:
    """What is in doubt is never used again."""
    target = Target(1)
    with pytest.raises(type(error)):
        async with target.kept.lease("a"):
            raise error
    assert (target.open, target.kept.used, target.kept.idle) == (0, 0, 0)


async def test_a_dead_idle_connection_is_replaced() -> None:
    """A server that closed a connection while nobody used it costs no failed run."""
    target = Target(1)
    async with target.kept.lease("a"):
        pass
    target.made[0].open = False
    async with target.kept.lease("a") as connection:
        assert connection.open


async def test_no_more_than_the_limit_and_first_come_first_served() -> None:
    """The bound holds whoever waits, and nobody is passed over."""
    target, order = Target(2), []

    async def use(owner: str) -> None:
        async with target.kept.lease(owner):
            order.append(owner)
            assert target.open <= 2
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for owner in "abcdef":
            tasks.create_task(use(owner))
    assert "".join(order) == "abcdef"
    assert len(target.made) == 2


async def test_a_place_given_to_who_waits_is_not_taken_by_who_comes_next() -> None:
    """Between being woken and running, the place must count as taken, else there is one connection too many."""
    kept = Target(1).kept
    held = await kept._take("a")
    waiter = asyncio.create_task(kept._take("b"))
    await ticks()
    newcomer = asyncio.create_task(kept._take("c"))  # its first step comes before the waiter's next
    kept._give_back(held)
    await ticks()
    assert (kept.used, waiter.done(), newcomer.done()) == (1, True, False)
    newcomer.cancel()


async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    """A turn lost with its waiter would leave the others waiting for ever."""
    kept = Target(1).kept
    held = await kept._take("a")
    first, second = asyncio.create_task(kept._take("b")), asyncio.create_task(kept._take("c"))
    await ticks()
    kept._give_back(held)
    first.cancel()
    assert (await asyncio.wait_for(second, 5)).owner == "c"
    assert kept.used == 1


async def test_drop_aborts_what_its_owner_holds_and_nobody_else() -> None:
    """A run past its deadline loses its socket and its place at once, whether or not its task notices."""
    target = Target(2)
    async with target.busy("slow"), target.busy("fine"):
        target.kept.drop("slow")
        assert [connection.open for connection in target.made] == [False, True]
        assert target.kept.used == 1
    assert target.kept.idle == 1


async def test_drop_reaches_a_connect_that_hangs() -> None:
    """A connect has a socket before it has a connection."""
    target = Target(1)
    target.hang = True
    lease = Lease("a")
    task = asyncio.create_task(target.connect(lease))
    await ticks()
    lease.drop()
    assert target.open == 0
    task.cancel()
    await asyncio.wait([task])


async def test_a_connect_that_swallows_its_cancel_leaves_nothing_open() -> None:
    """Some drivers return a connection after the cancel: it is aborted the moment it is known."""
    target = Target(1)
    target.hang = target.deaf = True

    async def use() -> None:
        async with target.kept.lease("a"):
            pass

    task = asyncio.create_task(use())
    await ticks()
    task.cancel()
    target.kept.drop("a")
    await asyncio.wait([task])
    assert (target.open, target.kept.used, target.kept.idle) == (0, 0, 0)


async def test_drop_idle_leaves_those_in_use() -> None:
    """After a doubt about the path only what nobody uses can be dropped without harm."""
    target = Target(2)
    async with target.busy("a"), target.busy("b"):
        pass
    async with target.kept.lease("a"):
        target.kept.drop_idle()
        assert (target.kept.used, target.kept.idle, target.open) == (1, 0, 1)


async def test_nothing_is_kept_after_close() -> None:
    """Shutdown must not leave a connection that a late run gives back, nor one that it makes."""
    target = Target(2)
    async with target.busy("a"):
        target.kept.close()
        assert target.open == 0
    with pytest.raises(ProbeError, match="closed"):
        async with target.kept.lease("late"):
            pass
    assert (target.open, target.kept.idle) == (0, 0)
