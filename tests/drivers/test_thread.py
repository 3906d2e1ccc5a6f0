"""Blocking calls in threads: whatever a call does, whoever waits for it is answered."""

import asyncio
from collections.abc import Callable

import pytest

from exporter.drivers.thread import in_thread


def raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


async def test_what_a_call_returns_or_raises_comes_back() -> None:
    """As if it had been made here."""
    assert await in_thread("test", lambda: 7) == 7
    with pytest.raises(KeyError):
        await in_thread("test", raising(KeyError()))


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyboardInterrupt()])
async def test_an_end_of_another_kind_is_an_error_and_no_silence(error: BaseException) -> None:
    """A library that exits when it is imported must not have a start wait for ever."""
    async with asyncio.timeout(5):
        with pytest.raises(RuntimeError, match=type(error).__name__):
            await in_thread("test", raising(error))
