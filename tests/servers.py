"""What tests need of real servers: starting them (by the demo's launcher), asking them, waiting, and looking for leaks.

A missing program fails the test with the line that would install it; nothing is ever skipped.
"""

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, overload

import asyncpg
import pytest

from exporter.demo.servers import MissingServer, Postgres, Program, RabbitMQ, Redis, base, reserve_port

POLL_SECONDS = 0.01

T = TypeVar("T")
P = TypeVar("P", bound=Program)


@contextmanager
def found() -> Iterator[None]:
    """Turns a missing program into a failure of one line."""
    try:
        yield
    except MissingServer as missing:
        pytest.fail(str(missing), pytrace=False)


def started(kind: Callable[..., P], *arguments: Any, **options: Any) -> P:
    """A server of that kind, made of these options and started; the caller closes it."""
    with found():
        server = kind(*arguments, **options)
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def start_postgres(**options: Any) -> Postgres:
    """A private server, started; the caller closes it. `options` are those of `Postgres`."""
    return started(Postgres, **options)


def start_redis(**options: Any) -> Redis:
    """A private server, started; the caller closes it. `options` are those of `Redis`."""
    return started(Redis, **options)


def start_rabbitmq(**options: Any) -> RabbitMQ:
    """A private node, started in four to eight seconds; the caller closes it. `options` are those of `RabbitMQ`."""
    return started(RabbitMQ, **options)


async def execute(url: str, *statements: str) -> None:
    """Runs statements one by one on a connection of its own, outside a transaction."""
    connection = await asyncpg.connect(url, ssl=False)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def fetch(url: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """The rows of one query, on a connection of its own."""
    connection = await asyncpg.connect(url, ssl=False)
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


@overload
async def eventually(condition: Callable[[], Awaitable[T]], within: float) -> T: ...
@overload
async def eventually(condition: Callable[[], T], within: float) -> T: ...
async def eventually(condition: Callable[[], T | Awaitable[T]], within: float) -> T:
    """The first true answer of `condition`, plain or awaitable; the test fails when none came within so many seconds."""
    until = time.monotonic() + within
    while True:
        answer = condition()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > until:
            pytest.fail(f"not within {within:g}s: {_text(condition)}; last answer {value!r}")
        await asyncio.sleep(POLL_SECONDS)


def eventually_now(condition: Callable[[], T], within: float) -> T:
    """`eventually` for tests without a loop."""
    until = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            pytest.fail(f"not within {within:g}s: {_text(condition)}; last answer {value!r}")
        time.sleep(POLL_SECONDS)


def _text(condition: Callable[..., object]) -> str:
    with suppress(OSError, TypeError):
        return inspect.getsource(condition).strip()
    return repr(condition)


def free_port() -> int:
    """A loopback port that refuses connections now; where it must stay so, use `closed_port`."""
    with reserve_port() as reserved:
        return int(reserved.getsockname()[1])


@contextmanager
def closed_port() -> Iterator[int]:
    """A loopback port that refuses connections for as long as the block lasts."""
    with reserve_port() as reserved:
        yield int(reserved.getsockname()[1])


is_listening = base.is_listening  # tests take it from here


def still_running(pids: Iterable[int]) -> list[int]:
    """Those of the processes that have not ended; one that init has yet to collect (a zombie) has."""
    return [pid for pid in pids if _state(pid) not in "ZX"]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def open_fds(pid: int | str = "self") -> Counter[str]:
    """What a process has open, each kind of thing with its number: `socket`, `pipe`, or a path."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # the one that lists this folder
            found[str(entry.readlink()).partition(":[")[0]] += 1
    return found


@asynccontextmanager
async def nothing_left(within: float = 2.0) -> AsyncIterator[None]:
    """Fails when the block leaves an open file or socket, or an unfinished task, that is still there after so many seconds."""
    fds, tasks = open_fds(), asyncio.all_tasks()
    yield
    await eventually(lambda: not (open_fds() - fds), within)
    await eventually(lambda: not (asyncio.all_tasks() - tasks - {asyncio.current_task()}), within)
