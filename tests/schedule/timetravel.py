"""An event loop whose clock jumps to the next planned moment instead of waiting: hours of schedule in milliseconds."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Never waits: moves the loop's clock by the time it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None and timeout > 0:
            self.moment += timeout
        elif not ready and timeout is None:
            raise AssertionError("the loop waits for something that will never happen")
        return ready


class TimeTravelLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.moment


def travel(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` on such a loop."""
    with asyncio.Runner(loop_factory=TimeTravelLoop) as runner:
        return runner.run(main)
