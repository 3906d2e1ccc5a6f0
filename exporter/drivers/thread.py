"""Blocking calls in threads that nobody waits for: one that hangs delays neither another nor the end of the process.

The event loop's own executor has few threads, and they are joined when the interpreter ends.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def in_thread(name: str, call: Callable[[], T]) -> "asyncio.Future[T]":
    """What `call` returns or raises, from a daemon thread of its own called `name`; whoever waits may stop waiting at any time.

    Raises:
        RuntimeError: the process may start no more threads.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    threading.Thread(target=_run, args=(call, loop, answer), name=name, daemon=True).start()
    return answer


def _run(call: Callable[[], T], loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[T]") -> None:
    """Runs in the thread; the loop may be closed by the time it is done."""
    try:
        settle = partial(_succeed, answer, call())
    except Exception as error:  # noqa: BLE001  # handed on to whoever waits
        settle = partial(_fail, answer, error)
    except BaseException as error:  # noqa: BLE001  # a library that exits: whoever waits must not wait for ever
        settle = partial(_fail, answer, RuntimeError(type(error).__name__))
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(settle)


def _succeed(answer: "asyncio.Future[T]", result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[T]", error: Exception) -> None:
    if not answer.done():
        # a future takes no StopIteration
        answer.set_exception(RuntimeError("StopIteration") if isinstance(error, StopIteration) else error)
        answer.exception()  # seen, even when nobody waits any more
