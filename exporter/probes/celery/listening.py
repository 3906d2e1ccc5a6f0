"""One life of the listener, from its first question to the first silence: hears events, proves that it does, asks new workers.

Two connections: the ear never publishes, so that a broker that takes no messages cannot silence it; the line does. Knows no
broker and no schedule.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.probes.base import Wake
from exporter.probes.celery.broker import Ear, Heard, Line, Names
from exporter.probes.celery.control import ACTIVE_QUEUES, ENABLE_EVENTS, command, gather
from exporter.probes.celery.events import Tasks
from exporter.probes.celery.path import EventPath
from exporter.probes.celery.protocol import Event, Sign, State, TaskEvent, events_in, queues_in
from exporter.probes.celery.workers import Workers

NONCE_SECONDS = 1.5
"""Between two nonces: three of them have time before the path counts as lost."""
ASK_SECONDS = 1.0
ASK_AGAIN_SECONDS = 60.0
"""How often all workers are asked anew: those that send no heartbeats are found so, and events that went off come on again."""
END_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What listening adds to, and what outlives each of its lives."""

    tasks: Tasks
    workers: Workers
    path: EventPath


class Listening:
    """Mutable: it lives once. `proved` is called whenever something has been heard; `wake` asks for a check now."""

    def __init__(
        self,
        knowledge: Knowledge,
        names: Names,
        wake: Wake,
        proved: Callable[[], None],
        *,
        enable_task_events: bool,
    ) -> None:
        self.blocked: ProbeError | None = None
        """Why the broker took no message of ours the last time."""
        self._tasks, self._workers, self._path = knowledge.tasks, knowledge.workers, knowledge.path
        self._token = names.token
        self._wake = wake
        self._proved = proved
        self._enable_task_events = enable_task_events
        self._now = asyncio.get_running_loop().time
        self._caught_up = False
        self._news = asyncio.Event()
        self._asked = self._now()

    async def run(self, ear: Ear, line: Line) -> None:
        """Never returns. Before the first event is counted the workers are asked for their queues, which events do not name.

        Raises:
            ProbeError: a connection has ended, or the broker refuses.
        """
        await self._unless_blocked(self._ask(line, None))
        reading = asyncio.create_task(self._read(ear), name="celery events")
        speaking = asyncio.create_task(self._speak(line), name="celery nonce")
        try:
            done, _ = await asyncio.wait((reading, speaking), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _end(reading, speaking)

    # --- hearing --------------------------------------------------------------------------------------------------------

    async def _read(self, ear: Ear) -> None:
        while True:
            for heard in await ear.hear():
                self._take(heard)
            self._proved()
            await ear.settle()
            await asyncio.sleep(0)  # a full queue must not keep everything else waiting

    def _take(self, heard: Heard) -> None:
        if heard.nonce is not None:
            self._take_nonce(heard.nonce)
        if heard.rejection is not None:
            self._tasks.reject((heard.rejection,))
        if heard.message is not None:
            events, rejections = events_in(heard.message)
            self._tasks.reject(rejections)
            for event in events:
                self._take_event(event, heard.again)

    def _take_nonce(self, nonce: str) -> None:
        """One of this process says that the path is good, and that all that was heard before it is from another time."""
        if nonce.startswith(self._token):
            self._caught_up = True
            self._path.prove(self._now())

    def _take_event(self, event: Event, again: bool) -> None:
        if isinstance(event, TaskEvent):
            if again and self._tasks.has(event):
                return
            self._tasks.add(event, self._workers.queue_of)
            if self._caught_up and event.state is not State.SENT:  # that one is sent by the task's caller
                self._workers.heard_task(event.hostname, self._now())
        elif self._caught_up:
            self._workers.heard(event, self._now())
            if event.sign is not Sign.HEARTBEAT:
                self._news.set()
                self._wake()

    # --- speaking -------------------------------------------------------------------------------------------------------

    async def _speak(self, line: Line) -> None:
        number = 0
        while True:
            number += 1
            await self._unless_blocked(line.send_nonce(f"{self._token}:{number}"))
            strangers = self._workers.strangers()
            if strangers:
                await self._unless_blocked(self._ask(line, strangers))
            elif self._now() - self._asked >= ASK_AGAIN_SECONDS:
                await self._unless_blocked(self._ask(line, None))
            if self._workers.gone_silent(self._now()):
                self._wake()
            await self._pause()

    async def _pause(self) -> None:
        """Until the next nonce is due, or there is somebody new."""
        self._news.clear()
        try:
            async with asyncio.timeout(NONCE_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return

    async def _ask(self, line: Line, strangers: Collection[str] | None) -> None:
        """Asks those workers, or all, for their queues, and has them send task events if that is wanted."""
        if strangers is None:
            self._asked = self._now()
        if self._enable_task_events:
            await line.ask(command(ENABLE_EVENTS, strangers), ASK_SECONDS)
        awaited = self._workers.awaited() if strangers is None else strangers
        answers = await gather(line, command(ACTIVE_QUEUES, strangers), awaited, ASK_SECONDS)
        self._workers.asked((), answers, self._now())
        for hostname, value in answers.items():
            self._workers.consumes(hostname, queues_in(value), self._now())
        if self._enable_task_events and answers:
            # once more: a worker says that it is online before it listens for commands, and may have missed the first
            await line.ask(command(ENABLE_EVENTS, tuple(answers)), ASK_SECONDS)

    async def _unless_blocked(self, speaking: Awaitable[None]) -> None:
        """A broker that takes no messages may take them again in a moment; how long that goes on is judged by what is heard."""
        try:
            await speaking
        except ProbeError as error:
            if error.reason is not Reason.BLOCKED:
                raise
            self.blocked = error
        else:
            self.blocked = None


async def _end(*tasks: "asyncio.Task[None]") -> None:
    """Ends the tasks, and waits for them a moment; one that is still there ends with its connection."""
    for task in tasks:
        task.cancel()
        task.add_done_callback(_seen)
    await asyncio.wait(tasks, timeout=END_SECONDS)


def _seen(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()
