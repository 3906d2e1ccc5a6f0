"""What happens on the demo's stage: everything until somebody ends it, or one turn from healthy to broken and back.

Knows no command line; what it has to say goes to `say`, a line at a time.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NoReturn, cast, get_args

from exporter.demo.audience import LOOK_SECONDS, Audience, Look
from exporter.demo.balance import noted, told
from exporter.demo.control import answering, claimed, socket_path
from exporter.demo.stage import How, Stage, StageError

ONCE_SECONDS = 110.0
HEARING_SECONDS = 20.0

Say = Callable[[str], None]
Scene = Callable[[Stage, Say], Coroutine[object, object, bool]]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def clock(say: Say) -> Say:
    """`say` with the seconds since now before each line."""
    began = time.monotonic()
    return lambda line: say(f"{time.monotonic() - began:6.1f}s  {line}")


def show(port: int, say: Say, scene: Scene) -> bool:
    """Sets the stage on `port` (0: a free one), plays one scene and clears up; False when it failed or was ended by a signal.

    Raises:
        MissingServer, ServerFailed: a part cannot be had.
    """
    try:
        with _ended_by_signals(), ExitStack() as stack:
            stage = Stage(port)
            stack.callback(stage.close)
            stack.callback(_ignore_signals)  # a second Ctrl-C shall not keep us from clearing up
            if stage.missing:
                say(stage.missing)
            stage.show_exporter()
            say(f"the page answers: {stage.exporter.url}/")
            stage.show_targets()
            return asyncio.run(_unless_ended(scene(stage, say)))
    except KeyboardInterrupt:
        return False


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Every signal that asks us to end interrupts as Ctrl-C does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


async def _unless_ended(scene: Coroutine[object, object, bool]) -> bool:
    """The scene's result, or False once a signal asks us to end."""
    playing = asyncio.create_task(scene)
    for number in _ENDING:
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    await asyncio.wait([playing])
    return not playing.cancelled() and playing.result()


async def endless(stage: Stage, say: Say, greet: Callable[[Stage], None]) -> bool:
    """Greets, has the platform trade, answers `exporter demo break` and the like, and says what moves, until it is cancelled.

    Raises:
        DemoRuns: there is one already.
        ServerFailed: the exporter has ended.
    """
    with claimed(socket_path(os.environ)) as bound:
        greet(stage)
        async with answering(bound, performer(stage)), Audience.of(stage.exporter.url, stage.must_go_on) as audience:
            await _open(stage, audience, say)
            await _tell(audience, stage, say)


async def _open(stage: Stage, audience: Audience, say: Say) -> None:
    """Trade begins once the exporter hears of tasks: those before it cannot know of."""
    try:
        async with asyncio.timeout(HEARING_SECONDS):
            await audience.sees(lambda look: any(line.endswith(" 1") for line in look.samples("celery_event_path_up")))
    except TimeoutError:
        say(f"the exporter hears nothing of Celery's tasks within {HEARING_SECONDS:g}s; what comes now it may not count")
    await asyncio.to_thread(stage.trade)
    say(f"trading: begins; the ledger is {stage.platform.ledger}")


def performer(stage: Stage) -> Callable[[str], Awaitable[str]]:
    """What the stage does on a request of `control`."""

    async def perform(request: str) -> str:
        match request.split():
            case ["break", name, how] if how in get_args(How):
                return await asyncio.to_thread(stage.broken, name, cast(How, how))
            case ["heal", name]:
                return await asyncio.to_thread(stage.healed, name)
            case ["pause"]:
                return await asyncio.to_thread(stage.paused)
            case ["resume"]:
                return await asyncio.to_thread(stage.resumed)
        raise StageError("not understood; ask with `exporter demo break NAME` or `exporter demo heal NAME`")

    return perform


async def _tell(audience: Audience, stage: Stage, say: Say) -> NoReturn:
    """Says a line for each status and each circuit that is not as it was."""
    known: dict[str, str] = {}
    while True:
        moments = _moments(await audience.look(), stage)
        for what, moment in moments.items():
            if known.get(what) != moment:
                say(f"{what} {moment}")
        known = moments
        await asyncio.sleep(LOOK_SECONDS)


def _moments(look: Look, stage: Stage) -> dict[str, str]:
    return {
        "health": look.status,
        "trading:": stage.trading,
        **{f"circuit of {name}:": look.circuit(name) for name in stage.targets},
    }


async def once(stage: Stage, say: Say) -> bool:
    """Healthy, the database stopped, unhealthy, the circuit open, started, healthy, the circuit closed, and the exporter's
    numbers equal to the ledger; True if all came.

    Raises:
        ServerFailed: the exporter has ended.
    """
    async with Audience.of(stage.exporter.url, stage.must_go_on) as audience:
        turn = _Turn(audience, say)
        try:
            async with asyncio.timeout(ONCE_SECONDS):
                await _open(stage, audience, say)
                await turn.until("healthy", lambda look: look.status == "healthy" and look.samples("trades_executed_total"))
                say(await asyncio.to_thread(stage.broken, "db"))
                await turn.until("unhealthy", lambda look: look.status == "unhealthy")
                await turn.until("circuit open", lambda look: look.circuit("db") == "open")
                say(await asyncio.to_thread(stage.healed, "db"))
                await turn.until("healthy", lambda look: look.status == "healthy")
                await turn.until("circuit closed", lambda look: look.circuit("db") == "closed")
                say(await asyncio.to_thread(stage.paused))
                turn.awaited = "the exporter's numbers are those of the ledger"
                await audience.sees(lambda look: told(look) == noted(stage.ledger.sums()))
                say(f"equal to the ledger: {_in_words(noted(stage.ledger.sums()))}")
        except TimeoutError:
            look = await audience.look()
            say(f"failed: not within {ONCE_SECONDS:g}s: {turn.awaited}; last seen:\n{look.health}")
            say(f"the exporter: {_in_words(told(look))}; the ledger: {_in_words(noted(stage.ledger.sums()))}")
            return False
    return True


def _in_words(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counted.items()))


class _Turn:
    """What is waited for now, and a line for each thing that came; mutable."""

    def __init__(self, audience: Audience, say: Say) -> None:
        self.awaited = ""
        self._audience = audience
        self._say = say

    async def until(self, name: str, what: Callable[[Look], object]) -> None:
        self.awaited = name
        look = await self._audience.sees(what)
        self._say(f"{name}: {look.line('db')}")
