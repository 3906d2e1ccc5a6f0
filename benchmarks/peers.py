"""This exporter beside the set of today, on the same servers: memory, processor time of both sides, and what each says in a freeze.

    python benchmarks/peers.py [--cycle 3] [--quick]

The set: postgres_exporter, redis_exporter and blackbox_exporter from Debian, a Celery poller, and the aggregator that folds them
into one /health, five processes; RabbitMQ's own plugin runs in the broker. collectd is shown beside them. One cycle is one scrape
of everything: the peers ask their targets then, we ask ours once a cycle on our own schedule. Sides take turns, alone with the
servers, and what the servers use when nobody asks is taken off. What is not installed is left out, and no sum is judged then.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, whatever is installed

from benchmarks.common.backends import Backends
from benchmarks.common.load import PROMETHEUS
from benchmarks.common.peers import Aggregator, Asked, Blackbox, CeleryPoller, Collectd, PostgresExporter, RedisExporter
from benchmarks.common.processes import MIB, ExporterProcess, body_of, median, resident_bytes, tree_cpu_seconds
from benchmarks.common.table import Figure, Row, at_most, compared, options_of, progress, tell
from exporter.demo.servers import HOST, MissingServer, Postgres, Program, Redis, Server, reserve_port
from exporter.demo.servers.base import port_of

NAME = "peers"
SET = 5
"""Processes of the set of today, when nothing is missing."""
SCRAPE_SECONDS = 10.0
"""When Prometheus gives up by default (its scrape_timeout)."""
WALL_MS = 10.0
READY_SECONDS = 30.0
PACKED = PROMETHEUS | {"Accept-Encoding": "gzip"}


@dataclass(slots=True)
class Stage:
    """The servers that both sides ask, their probes as we configure them, and how to start the peers; `plugin` is the broker's."""

    servers: Sequence[Program]
    probes: dict[str, dict[str, object]]
    makers: Sequence[Callable[[], Server]]
    plugin: Asked | None = None
    backends: Backends | None = None


@dataclass(slots=True)
class Team:
    """The processes of one side, running, what a scrape asks of them, and what could not be had."""

    processes: list[Server] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, process: Server, path: str) -> None:
        self.processes.append(process)
        self.asked.append((process.port, path))


@dataclass(frozen=True, slots=True)
class Share:
    """What one side took per cycle: seconds of processor time, its own and the servers', and of a scrape. Bytes by process."""

    cpu: float
    servers: float
    wall: float
    resident: dict[str, int]


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All rows; `--quick` has Redis alone, and one cycle."""
    cycle, cycles, rounds = (0.3, 1, 1) if options.quick else (options.cycle, 4, 2)
    with ExitStack() as made:
        stage = _redis_alone(made) if options.quick else _five(made)
        seen: dict[str, list[Share]] = {"nobody": [], "ours": [], "theirs": []}
        for number in range(rounds):
            for side, start in (("nobody", _nobody), ("ours", _ours), ("theirs", _theirs)):
                progress(f"{side}, {number + 1} of {rounds}")
                with start(stage, cycle) as team:
                    seen[side].append(_watched(team, stage, cycle, cycles))
        idle, ours, theirs = map(_middle, seen.values())
        yield from _shares(idle, ours, theirs, cycle, team.missing)
        yield from _beside(stage, ours, idle, (cycle, cycles))
        yield from _frozen(stage, cycle, 0.5 if options.quick else SCRAPE_SECONDS)


# -- who takes part --------------------------------------------------------------------------------------------------


def _five(made: ExitStack) -> Stage:
    """All five backends; the broker has its plugin."""
    port = port_of(made.enter_context(reserve_port()))
    settings = {"prometheus.tcp.ip": HOST, "prometheus.tcp.port": str(port)}
    backends = made.enter_context(Backends(plugins=("rabbitmq_prometheus",), rabbitmq=settings))
    url = f"http://{HOST}:{backends.app.port}/health"
    return Stage(
        (backends.postgres, backends.redis, backends.rabbitmq, backends.app, backends.worker),
        backends.probes,
        (
            lambda: PostgresExporter(backends.postgres.url),
            lambda: RedisExporter(backends.redis.port, backends.redis.password),
            lambda: Blackbox(url),
            lambda: CeleryPoller(backends.rabbitmq.url),
        ),
        (port, "/metrics"),
        backends,
    )


def _redis_alone(made: ExitStack) -> Stage:
    store = made.enter_context(Redis())
    probes: dict[str, dict[str, object]] = {"redis": {"type": "redis", "url": store.url, "collect": ["info"]}}
    return Stage((store,), probes, (lambda: RedisExporter(store.port, store.password),))


@contextmanager
def _nobody(stage: Stage, cycle: float) -> Iterator[Team]:
    time.sleep(cycle)
    yield Team()


@contextmanager
def _ours(stage: Stage, cycle: float) -> Iterator[Team]:
    """One exporter, healthy in all it probes."""
    interval = f"{round(cycle * 1000)}ms"
    with ExporterProcess({"probes": {name: {**probe, "interval": interval} for name, probe in stage.probes.items()}}) as process:
        _until(lambda: json.loads(body_of(process.port, "/health?format=json"))["status"] == "healthy")
        team = Team()
        team.add(process, "/metrics")
        time.sleep(cycle)
        yield team


@contextmanager
def _theirs(stage: Stage, cycle: float) -> Iterator[Team]:
    """All peers that are installed, each scraped once, and the aggregator."""
    team = Team()
    with ExitStack() as made:
        for maker in stage.makers:
            try:
                process = made.enter_context(maker())
            except MissingServer as missing:
                team.missing.append(str(missing))
            else:
                team.add(process, getattr(process, "path", "/metrics"))
        if stage.plugin is not None:
            team.asked.append(stage.plugin)
        urls = {str(port): f"http://{HOST}:{port}{path}" for port, path in team.asked}
        team.processes.append(made.enter_context(Aggregator(urls)))
        _scraped(team.asked)
        time.sleep(cycle)
        yield team


# -- measuring -------------------------------------------------------------------------------------------------------


def _watched(team: Team, stage: Stage, cycle: float, cycles: int) -> Share:
    """So many cycles, each begun by a scrape."""
    before = _cpu(team.processes), _cpu(stage.servers)
    walls = []
    due = time.monotonic()
    for _ in range(cycles):
        walls.append(_scraped(team.asked))
        due += cycle
        time.sleep(max(0.0, due - time.monotonic()))
    own, servers = _cpu(team.processes) - before[0], _cpu(stage.servers) - before[1]
    resident = {process.name: resident_bytes(process.processes[0]) for process in team.processes}
    return Share(own / cycles, servers / cycles, median(walls), resident)


def _cpu(programs: Sequence[Program]) -> float:
    return sum(tree_cpu_seconds(program.processes) for program in programs)


def _scraped(asked: Sequence[Asked]) -> float:
    """Seconds until everybody has answered, all asked at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        for answer in [pool.submit(body_of, port, path, SCRAPE_SECONDS, PACKED) for port, path in asked]:
            answer.result()
    return time.perf_counter() - began


def _middle(shares: Sequence[Share]) -> Share:
    cpu, servers, wall = (median(getattr(share, name) for share in shares) for name in ("cpu", "servers", "wall"))
    return Share(cpu, servers, wall, shares[-1].resident)


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {READY_SECONDS:g} s")
        time.sleep(0.05)


# -- rows ------------------------------------------------------------------------------------------------------------


def _shares(idle: Share, ours: Share, theirs: Share, cycle: float, missing: Sequence[str]) -> Iterator[Row]:
    yield from (Row(NAME, "left out, so that no sum is judged", "", line) for line in missing)
    names = ", ".join(f"{name} {Figure(size / MIB, 'MiB')}" for name, size in theirs.resident.items())
    whole = len(theirs.resident) == SET
    yield _against(
        f"memory against {len(theirs.resident)} processes ({names})", _memory(ours), _memory(theirs), 0.6 if whole else None
    )
    without = Figure(_memory(theirs).value - theirs.resident[Aggregator.name] / MIB, "MiB")
    yield _against("memory, the aggregator not counted", _memory(ours), without)
    each = f"per cycle of {cycle:g} s"
    own = [Figure(share.cpu * 1000, "ms") for share in (ours, theirs)]
    yield _against(f"own CPU {each}, /health not asked for", own[0], own[1], 0.5 if whole else None)
    servers = [Figure(max(0.0, share.servers - idle.servers) * 1000, "ms") for share in (ours, theirs)]
    rest = Figure(idle.servers * 1000, "ms")
    yield _against(f"CPU of the servers {each} (at rest {rest}, taken off)", servers[0], servers[1], 0.3 if whole else None)
    walls = [Figure(share.wall * 1000, "ms") for share in (ours, theirs)]
    yield replace(
        _against("everything scraped, all at once", walls[0], walls[1]), wanted=f"≤ {WALL_MS:g} ms", held=walls[0].value <= WALL_MS
    )


def _against(what: str, ours: Figure, theirs: Figure, limit: float | None = None) -> Row:
    if theirs.value <= 0:
        return Row(NAME, what, str(ours), str(theirs))
    return compared(NAME, what, ours, theirs, None if limit is None else at_most(limit))


def _memory(share: Share) -> Figure:
    return Figure(sum(share.resident.values()) / MIB, "MiB")


def _beside(stage: Stage, ours: Share, idle: Share, effort: tuple[float, int]) -> Iterator[Row]:
    """collectd, which asks on its own schedule too, for what it has plugins for."""
    if stage.backends is None:
        return
    progress("collectd")
    cycle, cycles = effort
    try:
        collectd = Collectd(stage.backends, cycle)
    except MissingServer as missing:
        yield Row(NAME, "left out", "", str(missing))
        return
    with collectd:
        time.sleep(2 * cycle)
        share = _watched(Team([collectd], [(collectd.port, "/metrics")]), stage, cycle, cycles)
    yield _against("beside: collectd (PostgreSQL, Redis, HTTP alone), memory", _memory(ours), _memory(share))
    own = [Figure(one.cpu * 1000, "ms") for one in (ours, share)]
    yield _against("beside: collectd, own CPU per cycle", own[0], own[1])
    servers = [Figure(max(0.0, one.servers - idle.servers) * 1000, "ms") for one in (ours, share)]
    yield _against("beside: collectd, CPU of the servers per cycle", servers[0], servers[1])


# -- a freeze --------------------------------------------------------------------------------------------------------


def _frozen(stage: Stage, cycle: float, give_up: float) -> Iterator[Row]:
    """What each says while PostgreSQL and Redis are stopped (SIGSTOP): their connections stay open, nothing answers."""
    frozen = [server for server in stage.servers if isinstance(server, Postgres | Redis)]
    progress("a freeze")
    with ExitStack() as made:
        ours, theirs = made.enter_context(_ours(stage, cycle)), made.enter_context(_theirs(stage, cycle))
        questions = _questions(stage, theirs)
        beside = _collectd(made, stage, cycle)
        before = "" if beside is None else _shown(beside)
        for server in frozen:
            made.callback(server.thaw)
            server.freeze()
        with ThreadPoolExecutor(len(questions) + 1) as pool:
            said = {name: pool.submit(_says, asked, series, give_up) for name, (asked, series) in questions.items()}
            us = pool.submit(_tells, ours.asked[0], ["pg_up", "redis_up"][-len(frozen) :]).result()
            for name, answer in said.items():
                yield Row(NAME, f"{' and '.join(server.name for server in frozen)} frozen: {name}", us, answer.result())
        if beside is not None:
            yield Row(NAME, "the same: collectd, which has no up series", us, f"{_shown(beside)}; before {before}")


def _questions(stage: Stage, theirs: Team) -> dict[str, tuple[Asked, str]]:
    """Which scrape of whom tells of the frozen servers, and by which series."""
    series = {PostgresExporter.name: "pg_up", RedisExporter.name: "redis_up"}
    found = {one.name: ((one.port, "/metrics"), series[one.name]) for one in theirs.processes if one.name in series}
    for one in theirs.processes:
        if isinstance(one, Blackbox) and stage.backends is not None:
            found["blackbox_exporter, TCP connect to Redis"] = (
                (one.port, one.tcp_path(stage.backends.redis.port)),
                "probe_success",
            )
    return found


def _says(asked: Asked, series: str, give_up: float) -> str:
    """One scrape, given up when Prometheus would."""
    began = time.monotonic()
    try:
        page = body_of(*asked, within=give_up).decode()
    except (OSError, HTTPException):
        return f"no answer in {give_up:g} s"
    return f"{series} {_value(page, series) or 'absent'} after {Figure(time.monotonic() - began, 's')}"


def _tells(asked: Asked, series: Sequence[str]) -> str:
    """How long until all of these are 0, and how long the page takes meanwhile."""
    began = time.monotonic()
    took = []

    def down() -> bool:
        before = time.perf_counter()
        page = body_of(*asked).decode()
        took.append(time.perf_counter() - before)
        return all(_value(page, name) == "0" for name in series)

    _until(down)
    return f"{', '.join(series)} 0 after {Figure(time.monotonic() - began, 's')}; /metrics {Figure(max(took) * 1000, 'ms')} at most"


def _value(page: str, series: str) -> str:
    lines = (line for line in page.splitlines() if line.startswith((f"{series} ", f"{series}{{")))
    return next(lines, "").rpartition(" ")[2]


def _collectd(made: ExitStack, stage: Stage, cycle: float) -> Asked | None:
    if stage.backends is None:
        return None
    try:
        collectd = made.enter_context(Collectd(stage.backends, cycle))
    except MissingServer:
        return None
    time.sleep(2 * cycle)
    return collectd.port, "/metrics"


def _shown(asked: Asked) -> str:
    """How many series of the servers that will be frozen, or are, it shows."""
    lines = body_of(*asked).decode().splitlines()
    return ", ".join(f"{name} {sum(line.startswith(f'collectd_{name}') for line in lines)}" for name in ("postgresql", "redis"))


if __name__ == "__main__":
    parser = options_of(__doc__)
    parser.add_argument("--cycle", type=float, default=3.0, help="seconds between scrapes; default 3")
    tell(measure, parser.parse_args())
