"""A listener is kept alive beside its check, whatever ends it."""

import asyncio
import logging
from contextlib import suppress
from itertools import pairwise

import pytest

from exporter.errors import ProbeError
from exporter.model import CircuitState, Reading, Reason, Status
from tests.schedule.stage import Stage, StageProbe, good, stage_settings
from tests.schedule.timetravel import travel


class Listening(StageProbe):
    """Its listener does as `ends` says, one entry for each start; then it listens for ever."""

    ends: tuple[BaseException | None, ...] = ()

    def __init__(self, *ends: BaseException | None) -> None:
        super().__init__("broker", stage_settings(interval="60s"))
        self.ends = ends
        self.started: list[float] = []

    async def listen(self, wake: object) -> None:
        number = len(self.started)
        self.started.append(asyncio.get_running_loop().time())
        if number == len(self.ends):
            await asyncio.Event().wait()
        error = self.ends[number]
        if error is not None:
            raise error


def test_a_listener_is_restarted_a_second_after_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Lost connection, ordinary return or a bug of ours; the check goes on and the same reason is logged once."""
    lost = ProbeError(Reason.RESET, "connection reset")
    probe = Listening(lost, lost, None, ValueError("secret text"))

    async def main() -> Status:
        async with Stage(probe) as stage:
            await asyncio.sleep(30)
            return stage.status().status

    with caplog.at_level(logging.WARNING):
        assert travel(main()) is Status.HEALTHY
    assert [round(later - probe.started[0]) for later in probe.started] == [0, 1, 2, 3, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "listening ended, again in 1s: reset: connection reset",
        "listening ended, again in 1s: internal: unexpected ValueError; please report it",
    ]


REFUSED = ProbeError(Reason.AUTH, "password refused", retryable=False)


async def refuse() -> Reading:
    raise REFUSED


def test_a_listener_that_is_refused_tries_less_and_less_often() -> None:
    """A wrong password tried every second is a locked account, and a line in the server's log each time."""
    probe = Listening(*[REFUSED] * 8)
    probe.act = refuse

    async def main() -> None:
        async with Stage(probe):
            await asyncio.sleep(130)

    travel(main())
    assert [round(later - earlier) for earlier, later in pairwise(probe.started)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_listener_that_was_refused_listens_as_soon_as_a_check_is_let_in() -> None:
    """Once the password is right nobody waits for the rest of half a minute."""
    probe = Listening(*[REFUSED] * 6)
    probe.act = refuse

    async def main() -> float:
        async with Stage(probe) as stage:
            await stage.until(lambda: len(probe.started) == 6)
            probe.act = good
            await stage.until(lambda: stage.status().status is Status.HEALTHY)
            healed = stage.loop.time()
            await stage.until(lambda: len(probe.started) == 7)
            return stage.loop.time() - healed

    assert travel(main()) < 0.1


def test_a_listener_that_may_not_what_a_check_may_is_not_tried_again_by_each_check() -> None:
    """A login with the right to ping and none to listen: good checks must not make it try again and again."""
    probe = Listening(*[ProbeError(Reason.FORBIDDEN, "no right to listen", retryable=False)] * 9)

    async def main() -> None:
        async with Stage(probe):
            await asyncio.sleep(100)

    travel(main())
    assert len(probe.started) <= 8


def test_a_listener_may_ask_for_a_check_now_but_not_too_often() -> None:
    """A worker that went offline is looked at before its next slot; a storm of events is one check per confirm_interval."""

    class Waking(StageProbe):
        async def listen(self, wake: object) -> None:
            assert callable(wake)
            while True:
                await asyncio.sleep(0.5)
                wake()

    probe = Waking("broker", stage_settings(interval="60s"))

    async def main() -> None:
        async with Stage(probe):
            await asyncio.sleep(59)

    travel(main())
    assert 59 / 5.6 - 2 <= len(probe.began) <= 59 / 5 + 3  # the first, those asked for, and one slot of the grid


def test_asked_during_a_check_the_next_one_follows_it() -> None:
    """The check under way may have looked before the thing happened; asked once, it is one check more."""

    async def slow() -> Reading:
        await asyncio.sleep(3)
        return Reading()

    class Once(StageProbe):
        async def listen(self, wake: object) -> None:
            assert callable(wake)
            await asyncio.sleep(1.5)
            wake()
            await asyncio.Event().wait()

    probe = Once("broker", stage_settings(interval="600s"), slow)

    async def main() -> None:
        async with Stage(probe):
            await asyncio.sleep(60)

    travel(main())
    assert [round(later - earlier) for earlier, later in pairwise(probe.began)] == [8]


def test_a_change_is_confirmed_no_sooner_for_being_asked() -> None:
    """Two looks at one blip are not two looks."""

    async def down() -> Reading:
        raise ProbeError(Reason.REFUSED, "refused", retryable=False)

    class Eager(StageProbe):
        async def listen(self, wake: object) -> None:
            assert callable(wake)
            await asyncio.sleep(1)  # after the first check
            while True:
                await asyncio.sleep(0.1)
                wake()

    probe = Eager("broker", stage_settings(interval="60s"), down)

    async def main() -> None:
        async with Stage(probe):
            await asyncio.sleep(8)

    travel(main())
    assert probe.began[1] - probe.began[0] >= 5


def test_a_listener_may_have_an_open_circuit_tried_now() -> None:
    """A worker that is back says so itself: nobody waits for the rest of the open circuit, nor tries more often than that."""

    async def down() -> Reading:
        raise ProbeError(Reason.REFUSED, "refused", retryable=False)

    class Eager(StageProbe):
        async def listen(self, wake: object) -> None:
            assert callable(wake)
            while True:
                await asyncio.sleep(0.5)
                if asked:
                    wake()

    asked: list[bool] = []
    probe = Eager("broker", stage_settings(interval="60s", circuit={"max_wait": "600s"}), down)

    async def main() -> None:
        async with Stage(probe) as stage:
            await stage.until(lambda: stage.status().circuit.state is CircuitState.OPEN)
            began = len(probe.began)
            asked.append(True)
            await asyncio.sleep(1)
            assert len(probe.began) == began + 1
            await asyncio.sleep(20)
            assert len(probe.began) <= began + 1 + 20 / 5
            probe.act = good
            await stage.until(lambda: stage.status().circuit.state is CircuitState.CLOSED)
            assert stage.loop.time() - probe.began[-3] < 20

    travel(main())


def test_a_cancel_from_within_and_a_translation_that_breaks_end_no_listener_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """A probe that has gone deaf without a word is worse than one that says so."""

    class Broken(Listening):
        @staticmethod
        def translate(error: Exception) -> ProbeError | None:
            raise KeyError("secret text")

    probe = Broken(asyncio.CancelledError(), ValueError("secret text"))

    async def main() -> None:
        async with Stage(probe):
            await asyncio.sleep(30)

    with caplog.at_level(logging.WARNING):
        travel(main())
    assert [round(later - probe.started[0]) for later in probe.started] == [0, 1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "listening ended, again in 1s: internal: unexpected CancelledError; please report it",
        "listening ended, again in 1s: internal: unexpected KeyError; please report it",
    ]


def test_a_listener_that_swallows_its_end_is_abandoned_and_counted() -> None:
    """It has an owner until it ends, and nobody waits for it."""

    class Deaf(StageProbe):
        async def listen(self, wake: object) -> None:
            while not self.closed or asyncio.get_running_loop().time() < ends[0]:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(1)

    probe = Deaf("broker", stage_settings())
    ends: list[float] = []

    async def main() -> int:
        async with Stage(probe) as stage:
            await asyncio.sleep(5)
            ends.append(stage.loop.time() + 60)
            await stage.schedule.remove("broker")
            assert stage.loop.time() <= ends[0] - 60 + 3
            (task,) = stage.abandoned
            await asyncio.wait((task,))
            return stage.tally().abandoned

    assert travel(main()) == 1
