"""The RabbitMQ probe: a message of its own there and back decides; queues are read from a second connection.

An alarm (memory, disk) silences every connection that has published, so the one that looks never does. Knows no exception of
the driver but its two refusals.
"""

import asyncio
from collections.abc import Mapping
from weakref import WeakSet

from exporter.drivers import amqp as driver
from exporter.drivers.amqp import Depth, Endpoint, Login, NotFound, Session
from exporter.drivers.kept import Kept, Lease
from exporter.drivers.tls import Tls
from exporter.errors import MESSAGE_LENGTH, ProbeError
from exporter.model import CHECK, Capability, Family, PoolUse, Reading, Reason
from exporter.probes.base import Collector, Probe, Runtime
from exporter.probes.rabbitmq.passive import Looker, Sight
from exporter.probes.rabbitmq.settings import CONSUMERS, DEFAULT_PORT, MESSAGES_READY, RabbitmqSettings
from exporter.probes.rabbitmq.speaking import Speaker
from exporter.secret import one_line

QUEUES = "queues"

OWN_NAMES = r"^exporter\."
"""The pattern of all our names on a broker, for grants."""
ROUND_TRIP_CURE = f"grant configure and read on {OWN_NAMES} and write on ^amq\\.default$, by rabbitmqctl set_permissions"
QUEUES_CURE = "grant configure on the queues: RabbitMQ 4.2.6 and 4.3.0 want it even for a passive declare"


class RabbitmqProbe(Probe[RabbitmqSettings]):
    """One virtual host of a broker; mutable: it keeps at most two connections, made on demand."""

    def __init__(self, name: str, settings: RabbitmqSettings, runtime: Runtime) -> None:
        super().__init__(name, settings, runtime)
        self._login = _login(settings)
        self._speaking = Kept(1, self._connect_speaker, abort=_abort, alive=_alive)
        self._looking = Kept(1, self._connect_looker, abort=_abort, alive=_alive)
        self._sessions: WeakSet[Session] = WeakSet()
        self._missing: frozenset[str] = frozenset()
        self._blocked = False
        reads = Collector(QUEUES, settings.interval, settings.timeout_seconds, self._read_queues)
        self._collectors = (reads,) if settings.queues else ()

    async def check(self) -> Reading:
        """A round trip, and that the named queues are there. Detail: version, product, cluster, vhost, tls, pool, checked_by."""
        self._blocked = False
        async with self._speaking.lease(CHECK) as speaker:
            blocked = await speaker.round_trip()
            seen = {} if blocked else await speaker.queues.look(self.settings.queues)
        if blocked is not None:
            await self._prove_that_it_answers()
            self._blocked = True
            raise blocked
        self._missing = frozenset(queue for queue, sight in seen.items() if isinstance(sight, NotFound))
        return self._judge(speaker, seen)

    def collectors(self) -> tuple[Collector, ...]:
        return self._collectors

    def pool(self) -> PoolUse:
        both = (self._speaking, self._looking)
        return PoolUse(sum(kept.idle for kept in both), sum(kept.used for kept in both), sum(kept.limit for kept in both))

    def drop(self, collector: str) -> None:
        for kept in (self._speaking, self._looking):
            kept.drop(collector)
            # What the check could not reach, idle connections cannot reach either. But a blocked one is kept: the broker does
            # not read from it, so it would not even see its end, and a new one for each check would pile up there.
            if collector == CHECK and not self._blocked:
                kept.drop_idle()

    async def aclose(self) -> None:
        await asyncio.gather(*(session.close() for session in self._sessions if session.alive))
        self._speaking.close()
        self._looking.close()

    @staticmethod
    def translate(error: Exception) -> ProbeError | None:
        return driver.translate(error)

    # --- connections --------------------------------------------------------------------------------------------------

    async def _connect_speaker(self, lease: Lease) -> Speaker:
        return Speaker(await self._connect(lease), f"exporter.{self.runtime.instance}.{self.name}")

    async def _connect_looker(self, lease: Lease) -> Looker:
        return Looker(await self._connect(lease))

    async def _connect(self, lease: Lease) -> Session:
        session = await driver.connect(self._login, self.runtime.resolver, lease.hold)
        self._sessions.add(session)
        return session

    async def _prove_that_it_answers(self) -> None:
        """A broker that has blocked us and then died, or froze, is not blocked."""
        async with self._looking.lease(CHECK) as looker:
            await looker.prove()

    # --- what was seen ------------------------------------------------------------------------------------------------

    def _judge(self, speaker: Speaker, seen: Mapping[str, Sight]) -> Reading:
        missing = [queue for queue, sight in seen.items() if isinstance(sight, NotFound)]
        if speaker.forbidden is not None and not any(_answers(sight) for sight in seen.values()):
            raise self._without_rights(speaker.forbidden)
        place = speaker.session.place
        message = f"in vhost {self._login.vhost} on {place} there is no queue {', '.join(missing)}"
        return Reading(
            detail=self._detail(speaker),
            degraded=Reason.ASSERTION if missing else None,
            message=one_line(message, MESSAGE_LENGTH) if missing else None,
            capabilities=(
                Capability("round_trip", speaker.forbidden is None, ROUND_TRIP_CURE),
                *((Capability(QUEUES, all(map(_answers, seen.values())), QUEUES_CURE),) if seen else ()),
            ),
        )

    def _detail(self, speaker: Speaker) -> dict[str, object]:
        server, pool = speaker.session.server, self.pool()
        return {
            "version": server.version,
            "product": server.product,
            "cluster": server.cluster,
            "vhost": self._login.vhost,
            "tls": speaker.session.encrypted,
            "pool": f"{pool.idle + pool.used} of {pool.limit} connections",
            "checked_by": "round trip" if speaker.forbidden is None else "passive declare; no right to declare a queue",
        }

    def _without_rights(self, refusal: ProbeError) -> ProbeError:
        """No right to declare a queue of ours, and none named that could be looked at instead."""
        return ProbeError(Reason.FORBIDDEN, one_line(f"{refusal.message}; or name a queue under `queues:`", MESSAGE_LENGTH))

    async def _read_queues(self) -> Reading:
        """The named queues, but for those that the check has just found missing: the broker logs each look at them."""
        async with self._looking.lease(QUEUES) as looker:
            seen = await looker.look(queue for queue in self.settings.queues if queue not in self._missing)
        reading = Reading(self._families(seen))
        hidden = next((sight for sight in seen.values() if isinstance(sight, ProbeError) and not _answers(sight)), None)
        if hidden is not None:
            raise ProbeError(hidden.reason, hidden.message, reading=reading)
        return reading

    def _families(self, seen: Mapping[str, Sight]) -> tuple[Family, ...]:
        depths = {(self._login.vhost, queue): sight for queue, sight in seen.items() if isinstance(sight, Depth)}
        return (
            Family(MESSAGES_READY, tuple((labels, depth.messages_ready) for labels, depth in depths.items())),
            Family(CONSUMERS, tuple((labels, depth.consumers) for labels, depth in depths.items())),
        )


def _answers(sight: Sight) -> bool:
    """Whether the broker told what was asked: that there is no such queue is an answer."""
    return isinstance(sight, Depth | NotFound)


def _alive(connection: Speaker | Looker) -> bool:
    return connection.session.alive


def _abort(connection: Speaker | Looker) -> None:
    connection.session.abort()


def _login(settings: RabbitmqSettings) -> Login:
    server = settings.server
    tls = Tls(**(settings.tls.model_dump(exclude_none=True) if settings.tls is not None else {}))
    endpoint = Endpoint(server.host, server.port or DEFAULT_PORT, tls if settings.encrypted else None)
    return Login(endpoint, server.username, server.password, server.path)
