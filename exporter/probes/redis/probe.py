"""The Redis probe: PING on a connection of its own decides; collectors share the others.

Knows no field of INFO and no exception of the driver.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from exporter.drivers import redis as driver
from exporter.drivers.kept import Lease
from exporter.drivers.redis import Answer, Endpoint, Greeting, Login, Session, greeting_of
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import CHECK, Capability, Reading, Reason
from exporter.probes.base import Collector, Runtime
from exporter.probes.pooled import PooledProbe
from exporter.probes.redis.info import SECTIONS, Info
from exporter.probes.redis.settings import DEFAULT_PORT, Group, RedisSettings

FEATURE = "info"
GREETING_SECONDS = 5.0
"""For so long a server is what it said it is: HELLO is one short command, but its answer costs us twice what PING does."""
_NOT_GREETED = (None, 0.0)


class RedisProbe(PooledProbe[RedisSettings, Session]):
    """One Redis or Valkey server."""

    def __init__(self, name: str, settings: RedisSettings, runtime: Runtime) -> None:
        super().__init__(name, settings, runtime)
        self._login = _login(settings)
        self._told: Greeting | None = None  # what INFO said last, for servers that do not greet
        self._greeted: tuple[Greeting | None, float] = _NOT_GREETED  # and when it is asked for again, in the loop's seconds
        runs: dict[Group, Callable[[], Awaitable[Reading]]] = {"info": self._read_info}
        self._collectors = tuple(self._collector(name, runs[name]) for name in settings.collect)

    async def check(self) -> Reading:
        """PING, in one round trip once connected. Detail: version, role, mode, protocol, tls, pool."""
        async with self._checking.lease(CHECK) as session:
            greeting = await self._ping(session) or self._told
        facts = {"version": greeting.version, "role": greeting.role, "mode": greeting.mode} if greeting is not None else {}
        return Reading(
            detail={
                **facts,
                "protocol": f"RESP{session.protocol}",
                "tls": session.encrypted,
                "pool": self.pool_in_words,
            }
        )

    async def _ping(self, session: Session) -> Greeting | None:
        """PING, and beside it now and then HELLO, by which a promotion is seen: no right is needed for it, but RESP3 (Redis 6)."""
        where = f"PING on {session.place}"
        now = asyncio.get_running_loop().time()
        (greeting, until), self._greeted = self._greeted, _NOT_GREETED  # asked for at once after whatever goes wrong here
        greets = session.greeting is not None and now >= until
        pong, *hello = await session.pipeline(*([("PING",), ("HELLO",)] if greets else [("PING",)]))
        if isinstance(pong, ProbeError):
            raise pong
        if pong != b"PONG":
            raise ProbeError(Reason.PROTOCOL, f"{where}: it answers something else")
        if greets:
            replies = (greeting_of(reply, where) for reply in hello if not isinstance(reply, ProbeError))
            greeting, until = next(replies, session.greeting), now + GREETING_SECONDS
        self._greeted = greeting, until
        return greeting

    def collectors(self) -> tuple[Collector, ...]:
        return self._collectors

    @staticmethod
    def translate(error: Exception) -> ProbeError | None:
        return driver.translate(error)

    # --- connections --------------------------------------------------------------------------------------------------

    async def _connect(self, lease: Lease) -> Session:
        return await driver.connect(self._login, self.runtime.resolver, lease.hold)

    # --- collectors ---------------------------------------------------------------------------------------------------

    async def _read_info(self) -> Reading:
        async with self._collecting.lease(FEATURE) as session:
            answers = await session.pipeline(*SECTIONS)
        info = Info.of("\n".join(self._text(answer) for answer in answers))
        self._told = Greeting(info.version, info.mode, info.role)
        return Reading(info.families(time.time(), self._login.db), capabilities=(Capability(FEATURE, available=True),))

    def _text(self, answer: Answer) -> str:
        """The text of an answer to INFO; raises a refusal, now that the connection has been given back in good order."""
        if isinstance(answer, bytes):
            return answer.decode(errors="replace")
        if not isinstance(answer, ProbeError):
            raise ProbeError(Reason.PROTOCOL, f"INFO on {self._login.endpoint.place}: not a text")
        if answer.reason is not Reason.FORBIDDEN:
            raise answer
        cure = f"ACL SETUSER {self._login.username or 'default'} +info"
        lacking = Reading(capabilities=(Capability(FEATURE, available=False, cure=cure),))
        raise ProbeError(answer.reason, answer.message, reading=lacking) from answer


def _login(settings: RedisSettings) -> Login:
    server = settings.server
    tls = None
    if settings.speaks_tls:
        own = settings.tls.model_dump(exclude_none=True) if settings.tls is not None else {}
        tls = Tls(**{**settings.tls_material, **own})
    endpoint = Endpoint(server.host, server.port or DEFAULT_PORT, tls)
    return Login(endpoint, server.username, server.password, settings.database, settings.protocol)
