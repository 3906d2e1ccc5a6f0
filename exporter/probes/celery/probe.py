"""The Celery probe: a ping of the workers decides, on a connection of its own; the listener counts what they say of their tasks.

Knows no exception of a driver.
"""

import asyncio
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib import import_module

from exporter import phase
from exporter.drivers.kept import Kept, Lease
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import CHECK, Family, PoolUse, Reading, Reason
from exporter.probes.base import Collector, Probe, Runtime, Wake
from exporter.probes.celery import queues
from exporter.probes.celery.broker import Broker, Ear, Line, Names
from exporter.probes.celery.control import PING, command, gather
from exporter.probes.celery.events import Tasks
from exporter.probes.celery.listening import Knowledge, Listening
from exporter.probes.celery.path import LOST_SECONDS, EventPath
from exporter.probes.celery.settings import MOST_CONNECTIONS, RABBITMQ, REDIS, CelerySettings
from exporter.probes.celery.verdict import Found, judge
from exporter.probes.celery.workers import Workers

BROKERS = {
    RABBITMQ: ("exporter.probes.celery.amqp", "AmqpBroker"),
    REDIS: ("exporter.probes.celery.redis", "RedisBroker"),
}
"""Where each is, imported late: the driver of the other one costs up to 6 MiB for nothing."""
QUEUES, LISTENER = "queues", "listener"

PING_SECONDS = 1.5
PING_SHARE = 0.5
"""The longest a ping waits for workers: a share of the check's deadline, as the broker itself is to be asked after it."""
LOOK_AROUND_SECONDS = 60.0
"""How often a ping waits for workers that nobody has heard of, while no events are heard that would tell of them."""
ZOMBIE_SECONDS = 35.0
"""How long a broker may take a connection that we gave up for a consumer: it notices after three missed heartbeats."""
FINISH_SECONDS = 0.5


class CeleryProbe(Probe[CelerySettings]):
    """The workers behind one broker; mutable: it keeps connections, and what it has heard."""

    def __init__(self, name: str, settings: CelerySettings, runtime: Runtime) -> None:
        super().__init__(name, settings, runtime)
        self._names = Names(runtime.instance, secrets.token_hex(4))
        self._broker = _broker(settings, self._names, runtime)
        self._known = Knowledge(Tasks(), Workers(settings.workers), EventPath())
        self._checking = self._kept(CHECK)
        self._looking = self._kept(QUEUES)
        self._speaking: Line | None = None
        self._listening = 0
        self._looked_around = float("-inf")
        self._gave_up = float("-inf")
        self._blocked = False
        self._families: tuple[int, tuple[Family, ...]] = (-1, ())

    async def check(self) -> Reading:
        """Pings the workers, for as long as those that are expected take. Detail: workers, events, task_events, broker, tls."""
        self._blocked = False
        async with self._checking.lease(CHECK) as line:
            try:
                found = await self._look(line)
            except ProbeError as error:
                if not line.blocked:
                    raise
                self._blocked, blocked = True, error
            else:
                return judge(found, self.settings)
        raise blocked

    def collectors(self) -> tuple[Collector, ...]:
        if not self.settings.queues:
            return ()
        return (Collector(QUEUES, self.settings.interval, self.settings.timeout_seconds, self._read_queues),)

    async def listen(self, wake: Wake) -> None:
        """Hears events until nothing has been heard for five seconds, a nonce of ours included.

        Raises:
            ProbeError: that, or a connection has ended.
        """
        phases = phase.begin()
        try:
            await self._listen(wake, phases)
        except ProbeError as error:
            self._known.path.lose(error.message)
            raise
        finally:
            self._listening = 0

    def counters(self) -> tuple[int, tuple[Family, ...]]:
        known = self._known
        version = known.tasks.version + known.path.version
        if version != self._families[0]:
            self._families = (version, (*known.path.families(), *known.tasks.families()))
        return self._families

    def pool(self) -> PoolUse:
        both = (self._checking, self._looking)
        return PoolUse(sum(kept.idle for kept in both), sum(kept.used for kept in both) + self._listening, MOST_CONNECTIONS)

    def drop(self, collector: str) -> None:
        for kept in (self._checking, self._looking):
            kept.drop(collector)
        if collector == CHECK and not self._blocked:  # what the check could not reach, idle connections cannot reach either
            self._checking.drop_idle()
            self._looking.drop_idle()

    async def aclose(self) -> None:
        self._checking.close()
        self._looking.close()
        if self._speaking is not None:
            self._speaking.abort()

    def translate(self, error: Exception) -> ProbeError | None:  # type: ignore[override]  # it follows the broker
        return self._broker.translate(error)

    # --- connections ----------------------------------------------------------------------------------------------------

    def _kept(self, role: str) -> Kept[Line]:
        async def connect(lease: Lease) -> Line:
            return await self._broker.connect(role, lease.hold)

        return Kept(1, connect, abort=lambda line: line.abort(), alive=lambda line: line.alive)

    # --- the check ------------------------------------------------------------------------------------------------------

    async def _look(self, line: Line) -> Found:
        known, now = self._known, asyncio.get_running_loop().time
        awaited = known.workers.awaited()
        answers = await gather(line, command(PING), self._patience(awaited), self._ping_seconds)
        if not answers or not awaited <= answers.keys():
            await line.prove()
        listeners = await line.listeners() if known.path.up else None
        known.workers.asked(awaited, answers, now())
        return Found(
            lives=known.workers.lives(now(), known.path.since),
            unheard=known.workers.unheard(now()),
            events=known.path.told,
            second_consumer=(listeners or 0) > 1 and now() - self._gave_up > ZOMBIE_SECONDS,
            event_queue=self._names.events,
            version=line.version,
            encrypted=line.encrypted,
        )

    @property
    def _ping_seconds(self) -> float:
        return min(PING_SECONDS, PING_SHARE * self.settings.timeout_seconds)

    def _patience(self, awaited: frozenset[str]) -> Collection[str]:
        """Whom the ping waits for; nobody in particular, so for its whole time, where there may be others."""
        now = asyncio.get_running_loop().time()
        deaf = not self._known.path.up and now - self._looked_around > LOOK_AROUND_SECONDS
        if awaited and not deaf and len(awaited) >= self.settings.min_workers:
            return awaited
        self._looked_around = now
        return ()

    async def _read_queues(self) -> Reading:
        async with self._looking.lease(QUEUES) as line:
            lengths = await line.lengths(self.settings.queues)
        return queues.reading(lengths)

    # --- listening ------------------------------------------------------------------------------------------------------

    async def _listen(self, wake: Wake, phases: phase.Phases) -> None:
        now = asyncio.get_running_loop().time
        lease = Lease(LISTENER)
        ear: Ear | None = None
        listening: Listening | None = None
        try:
            async with asyncio.timeout(LOST_SECONDS) as limit:
                line = await self._line()
                ear = await self._broker.listen(lease.hold)
                self._listening = 2
                listening = Listening(
                    self._known,
                    self._names,
                    wake,
                    lambda: limit.reschedule(now() + LOST_SECONDS),
                    enable_task_events=self.settings.enable_task_events,
                )
                await listening.run(ear, line)
        except TimeoutError:
            self._gave_up = now()
            raise self._silence(listening, phases) from None
        except asyncio.CancelledError:
            await _leave(ear)
            raise
        finally:
            lease.drop()
            self._let_go()

    async def _line(self) -> Line:
        """The line that the last listening left blocked, or a new one."""
        if self._speaking is None or not self._speaking.alive:
            self._speaking = await self._broker.connect(LISTENER, lambda _: None)
        return self._speaking

    def _let_go(self) -> None:
        if self._speaking is not None and not self._speaking.blocked:
            self._speaking.abort()
            self._speaking = None

    def _silence(self, listening: Listening | None, phases: phase.Phases) -> ProbeError:
        if listening is not None and listening.blocked is not None:
            return listening.blocked
        what, reason = phases.innermost if listening is None else ("", Reason.TIMEOUT)
        place = self.settings.server.place
        return ProbeError(
            reason, f"{what or f'events from {place}'}: nothing heard for {LOST_SECONDS:g}s, not even our own message"
        )


async def _leave(ear: Ear | None) -> None:
    """What has been counted is not delivered to the next process once more."""
    if ear is not None:
        with suppress(ProbeError, TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                await ear.settle()
                await ear.finish()


def _broker(settings: CelerySettings, names: Names, runtime: Runtime) -> Broker:
    own = settings.tls.model_dump(exclude_none=True) if settings.tls is not None else {}
    tls = Tls(**{**settings.tls_material, **own}) if settings.encrypted else None
    module, name = BROKERS[settings.broker]
    kind: Callable[..., Broker] = getattr(import_module(module), name)
    return kind(settings.server, tls, names, runtime.resolver)
