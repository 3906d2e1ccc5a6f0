"""A real server on a free port in front of hand-made snapshots, and a client that sends exactly the headers it is given."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType

from aiohttp import ClientSession

from exporter.config import Listen, Web
from exporter.model import (
    Availability,
    CircuitState,
    CircuitStatus,
    CollectorStatus,
    Distribution,
    History,
    ProbeStatus,
    ProbeTally,
    Reason,
    Recent,
    Snapshot,
    Status,
)
from exporter.state.history import RECENT
from exporter.web import Commands, Lifecycle, Sources
from exporter.web.routes import Surface
from exporter.web.server import start

NOW = 10_000.0
WALL = 1795493106.123  # 2026-11-24T04:05:06.123Z

RABBITMQ = ProbeStatus(
    "rabbitmq",
    "rabbitmq",
    status=Status.UNHEALTHY,
    reason=Reason.REFUSED,
    message="connect 10.0.0.7:5672: connection refused",
    since=NOW - 134,
    since_at=WALL - 134,
    last_run=NOW - 4.1,
    last_run_at=WALL - 4.1,
    last_success_at=WALL - 139,
    duration_seconds=0.003,
    failing=True,
    consecutive_failures=9,
    circuit=CircuitStatus(CircuitState.OPEN, NOW + 23.4),
    collectors=(CollectorStatus("queues", False, Reason.TIMEOUT, "no answer in 1s", NOW - 12, WALL - 12, 1.0),),
)
CELERY = ProbeStatus(
    "celery",
    "celery",
    depends_on=("rabbitmq",),
    status=Status.UNHEALTHY,
    reason=Reason.REFUSED,
    message="connect 10.0.0.7:5672: connection refused",
    since=NOW - 130,
    since_at=WALL - 130,
    last_run=NOW - 9,
    last_run_at=WALL - 9,
    duration_seconds=0.004,
    failing=True,
    consecutive_failures=5,
)
DB = ProbeStatus(
    "db",
    "postgres",
    aliases=("database",),
    status=Status.HEALTHY,
    since=NOW - 900,
    since_at=WALL - 900,
    last_run=NOW - 4,
    last_run_at=WALL - 4,
    last_success_at=WALL - 4,
    duration_seconds=0.0031,
    detail={"server_version": "15.4", "tls": False},
)
BINANCE = ProbeStatus(
    "binance",
    "http",
    critical=False,
    status=Status.DEGRADED,
    reason=Reason.RATE_LIMITED,
    message="429, Retry-After 60s",
    since=NOW - 12,
    since_at=WALL - 12,
    last_run=NOW - 12,
    last_run_at=WALL - 12,
    duration_seconds=0.212,
    circuit=CircuitStatus(CircuitState.OPEN, NOW + 48),
)
REPORT = ProbeStatus("report", "http", enabled=False)
FIVE = (RABBITMQ, CELERY, DB, BINANCE, REPORT)

NO_PAST = History((), (), (), {"1h": Availability(0.0, 0.0), "24h": Availability(0.0, 0.0)})

EXPOSITION = b"".join(b'pg_up{probe="p%d"} 1\n' % number for number in range(200))


def snapshot(*probes: ProbeStatus) -> Snapshot:
    """The probes as they stand, of a process that is alive."""
    return Snapshot(generation=1, started=NOW - 912.4, probes=probes, beat=NOW - 0.5)


def tally(name: str, abandoned: int) -> ProbeTally:
    """What is counted of a probe that has had so many abandoned runs and nothing else."""
    durations = Distribution((), (), 0.0, 0)
    return ProbeTally(name, 1, (), 15.0, {}, {}, 0, {}, abandoned, durations, 0, 0, {}, None, None, (), None, ())


def exposition(openmetrics: bool, probe: str | None) -> bytes:
    """A body that says what was asked for, large enough to be worth compressing."""
    return b"# %s %s\n" % (b"openmetrics" if openmetrics else b"text", (probe or "all").encode()) + EXPOSITION


@dataclass(frozen=True, slots=True)
class Answer:
    """What came over the wire; the body is not decompressed."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def type(self) -> str:
        return self.headers["Content-Type"]


@dataclass(frozen=True, slots=True)
class Stand:
    """A surface that is being served, and a client of it."""

    surface: Surface
    lifecycle: Lifecycle
    port: int
    _session: ClientSession

    async def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """One request; headers are named with `_` for `-`, and nothing is sent that is not named."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, path, headers=named, data=body, allow_redirects=False) as response:
            return Answer(response.status, dict(response.headers), await response.read())


@asynccontextmanager
async def serving(
    *probes: ProbeStatus,
    web: Web = Web(),  # noqa: B008 - frozen
    commands: Commands | None = None,
    metrics: Callable[[bool, str | None], bytes] = exposition,
    snap: Callable[[], Snapshot] | None = None,
    pasts: Mapping[str, History] = MappingProxyType({}),
) -> AsyncIterator[Stand]:
    """Serves the probes at NOW, started and not draining; those that are not in `pasts` have none."""

    def history(name: str) -> History:
        return pasts.get(name, NO_PAST)

    def recent(name: str) -> Recent:
        return Recent(tuple(run.outcome for run in reversed(history(name).runs[:RECENT])), history(name).availability)

    shown = snap or (lambda: snapshot(*probes))
    sources = Sources(shown, metrics, lambda: NOW, lambda: WALL, "0.1.0", lambda: web, recent, history)
    lifecycle = Lifecycle(started=True)
    surface = Surface(sources, lifecycle, commands)
    server = await start(Listen("127.0.0.1", 0), surface.application, surface.refused)
    skipped = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
    try:
        async with ClientSession(server.url, auto_decompress=False, skip_auto_headers=skipped) as session:
            yield Stand(surface, lifecycle, server.port, session)
    finally:
        await server.aclose()


def healthy(name: str, **changes: object) -> ProbeStatus:
    """A healthy probe with a name of its own."""
    return replace(DB, name=name, aliases=(), **changes)  # type: ignore[arg-type]
