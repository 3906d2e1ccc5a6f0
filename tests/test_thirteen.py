"""The README's table of the trading platform's thirteen metrics: what each row says, held against real servers.

The rows are read from the table. A claim that is not in CLAIMS below is one that nobody tests, and fails.
"""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config import load
from exporter.demo.servers import HOST, CeleryWorker, Postgres, Redis
from exporter.demo.trading.schema import seed
from tests.celery_app import application
from tests.running import Running
from tests.servers import eventually_now, start_postgres, start_redis, started

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.yaml"
TABLE = (ROOT / "README.md").read_text().partition("## The trading platform's thirteen\n")[2].partition("\n## ")[0]
SAME = "the same"
TABLE_MADE = "CREATE TABLE"
TASKS = 3

FULL, BARE, NOBODY = "full", "bare", "nobody"
TABLES = ("trades", "opportunities")
LOGINS = (FULL, BARE, NOBODY, *(f"without-{table}" for table in TABLES))
"""Of the database, each a probe: all rights, none but to log in, a wrong password, and one table short."""
SILENT, TOLD, ASKED = "celery", "celery-told", "celery-asked"
"""Celery probes: workers without events; with -E; and asked for them by enable_task_events. The first has the README's name."""


@dataclass(frozen=True)
class Row:
    """One row of the table: metrics, and what is said of them."""

    names: tuple[str, ...]
    kind: str
    labels: frozenset[str]
    source: str
    needs: str
    without: str


def _rows() -> Iterator[Row]:
    """The rows in order; a cell that says `the same` has what stands above it."""
    before = Row((), "", frozenset(), "", "", "")
    for line in TABLE.strip().splitlines()[2:]:
        if not line.startswith("|"):
            return
        names, kind, labels, source, needs, without = (cell.strip() for cell in line.strip("|").split("|"))
        row = Row(tuple(re.findall(r"`(\w+)`", names)), kind, frozenset(filter(None, labels.split(", "))), source, needs, without)
        before = replace(
            row, needs=before.needs if needs == SAME else needs, without=before.without if without == SAME else without
        )
        yield before


ROWS = tuple(_rows())


@dataclass(frozen=True)
class Scene:
    """What an exporter says of the platform by each login and from each kind of worker."""

    metrics: str
    health: dict[str, Any]

    def has(self, name: str, probe: str = "", state: str = "") -> bool:
        """Whether a metric has a series, of that probe and in that state or of any."""
        labels = [f'{label}="{value}"' for label, value in (("probe", probe), ("state", state)) if value]
        lines = (line for line in self.metrics.splitlines() if line.startswith((f"{name}{{", f"{name}_bucket{{")))
        return any(all(label in line for label in labels) for line in lines)

    def value(self, name: str, **labels: str) -> float:
        """Of the one series with these labels among its own."""
        (line,) = (
            line
            for line in self.metrics.splitlines()
            if line.startswith(f"{name}{{") and all(f'{key}="{value}"' in line for key, value in labels.items())
        )
        return float(line.rpartition(" ")[2])


# --- the servers --------------------------------------------------------------------------------------------------------------


def _database() -> Postgres:
    """The demo's own tables with a row in each, and its role once for each login, less what that lacks."""
    return start_postgres(
        seed=(
            *seed(FULL, FULL),
            *(
                statement
                for login in LOGINS
                if login != FULL
                for statement in seed(f'"{login}"', login)
                if TABLE_MADE not in statement
            ),
            *(f'REVOKE SELECT ON {table} FROM "without-{table}"' for table in TABLES),
            f"REVOKE SELECT ON {', '.join(TABLES)} FROM {BARE}",
            f"REVOKE pg_read_all_stats FROM {BARE}",
            "INSERT INTO trades VALUES (gen_random_uuid(), 'BTCUSDT', 'executed', 'buy', 1.5)",
            "INSERT INTO opportunities VALUES (gen_random_uuid(), 'BTCUSDT', 'active', 0.4)",
        )
    )


def _configuration(database: Postgres, brokers: dict[str, str]) -> str:
    """The example's own probe of the database for every login, and its own probe of Celery for every broker."""
    example = yaml.safe_load(EXAMPLE.read_text())["probes"]
    words = {login: "wrong" if login == NOBODY else login for login in LOGINS}
    probes = {
        login: {**example["db"], "url": f"postgresql://{login}:{word}@{HOST}:{database.port}/postgres"}
        for login, word in words.items()
    }
    for name, url in brokers.items():
        probes[name] = {**example["celery"], "broker_url": url, "enable_task_events": name == ASKED}
    return json.dumps({"defaults": {"interval": "1s"}, "probes": probes})


def _brokers(redis: Redis) -> dict[str, str]:
    """One database of Redis for each: kombu keeps them apart, control commands too."""
    return {name: redis.url_of(number) for number, name in enumerate((SILENT, TOLD, ASKED), 1)}


def _worker(name: str, url: str) -> CeleryWorker:
    return started(CeleryWorker, url, "tests.celery_app:app", node=f"{name}@here", pool="solo", events=name == TOLD, places=[ROOT])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Taken once every login was tried and every worker has run its tasks."""
    with ExitStack() as stack:
        database, redis = _database(), start_redis()
        for server in (database, redis):
            stack.callback(server.close)
        brokers = _brokers(redis)
        with ThreadPoolExecutor() as pool:
            workers = list(pool.map(_worker, brokers.keys(), brokers.values()))
        for worker in workers:
            stack.callback(worker.close)
        folder = tmp_path_factory.mktemp("exporter")
        exporter = stack.enter_context(Running(folder, _configuration(database, brokers)))
        eventually_now(lambda: _listens(exporter), 30)
        for name, url in brokers.items():
            _send(url, tells=name == TOLD)
        eventually_now(lambda: all(worker.said(" succeeded in ") for worker in workers), 30)
        eventually_now(lambda: _all_is_told(exporter), 30)
        yield Scene(exporter.get("/metrics")[1], exporter.health()["probes"])


def _listens(exporter: Running) -> bool:
    """Whether what tasks tell will be heard: of all three brokers, and by then workers were asked for their events."""
    paths = exporter.samples("celery_event_path_up")
    return len(paths) == 3 and all(paths.values()) and "by enable_task_events" in _task_events(exporter.health(ASKED))


def _task_events(probe: dict[str, Any]) -> str:
    return str(probe["detail"].get("task_events", ""))


def _send(url: str, *, tells: bool) -> None:
    """Calls tasks, from an application that sends an event for each, or not."""
    app = application(url)
    app.conf.task_send_sent_event = tells
    for _ in range(TASKS):
        app.send_task("shop.add", (1, 2))
    app.close()


def _all_is_told(exporter: Running) -> bool:
    """Whether both that send events have counted their tasks, and every collector of each login that is let in has been tried."""
    counted = exporter.samples("celery_tasks_total{")
    succeeded = [value for series, value in counted.items() if 'state="succeeded"' in series]
    tried = [
        collector["success"] is not None
        for name, probe in exporter.health()["probes"].items()
        if name != NOBODY
        for collector in probe["collectors"].values()
    ]
    return succeeded == [TASKS, TASKS] and all(tried) and exporter.status(NOBODY) == "unhealthy"


# --- the claims ---------------------------------------------------------------------------------------------------------------


def _needs_select(row: Row, scene: Scene) -> None:
    """One table short, what is read from it is absent, and that alone: the probe stays up and its other queries go on."""
    (name,) = row.names
    table = _table_of(row)
    assert scene.has(name, FULL)
    lacking = f"without-{table}"
    assert not scene.has(name, lacking)
    (query,) = (query for query, written in _queries().items() if name in written["metrics"])
    assert scene.value("sidecar_collector_success", probe=lacking, collector=query) == 0
    assert scene.health[lacking]["collectors"][query]["reason"] == "forbidden"
    assert (scene.value("sidecar_probe_up", probe=lacking), scene.health[lacking]["status"]) == (1, "healthy")
    others = [other for row in ROWS if row.source.startswith("query on") and _table_of(row) != table for other in row.names]
    assert [other for other in others if not scene.has(other, lacking)] == []


def _table_of(row: Row) -> str:
    """What the row says that its query reads."""
    found = re.match(r"query on `(\w+)`", row.source)
    assert found, row.source
    return found[1]


def _queries() -> dict[str, Any]:
    queries: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())["probes"]["db"]["queries"]
    return queries


def _needs_a_login(row: Row, scene: Scene) -> None:
    """No grant beside it; and with a wrong password there is nothing."""
    (name,) = row.names
    assert scene.has(name, BARE)
    assert not scene.has(name, NOBODY)
    assert (scene.health[NOBODY]["status"], scene.health[NOBODY]["reason"]) == ("unhealthy", "auth")
    (query,) = (written for written in _queries().values() if name in written["metrics"])
    assert f"FROM {_table_of(row)} " in query["sql"]


def _needs_events(row: Row, scene: Scene) -> None:
    """Either way will do; with neither nothing is counted, the probe is healthy, and /health/celery names both."""
    (name,) = row.names
    assert [probe for probe in (SILENT, TOLD, ASKED) if scene.has(name, probe)] == [TOLD, ASKED]
    assert scene.health[SILENT]["status"] == "healthy"
    ways = re.findall(r"`([^`]+)`", row.needs)
    assert len(ways) == 2
    assert [way for way in ways if way not in _task_events(scene.health[SILENT])] == []


def _is_to_come(row: Row, scene: Scene) -> None:
    """Nowhere yet; when one of them comes, its row must say what it needs."""
    assert (row.kind, row.labels, row.source) == ("", frozenset(), "")
    assert [name for name in row.names if scene.has(name)] == []


EVENTS = "events switched on: `enable_task_events: true`, or workers with `-E`"

CLAIMS: dict[tuple[str, str], Callable[[Row, Scene], None]] = {
    ("`SELECT` on the table", "absent"): _needs_select,
    ("a login", "absent"): _needs_a_login,
    (EVENTS, f"no series; `/health/{SILENT}` says how to switch them on"): _needs_events,
    ("", "still to come"): _is_to_come,
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.names[0])
def test_a_row_says_what_is_needed_and_what_is_absent_without_it(row: Row, scene: Scene) -> None:
    """An operator grants what stands there, and looks there when a number is missing."""
    assert (row.needs, row.without) in CLAIMS, "nobody tests what this row claims"
    CLAIMS[row.needs, row.without](row, scene)


def test_sent_is_told_by_the_sender_alone(scene: Scene) -> None:
    """What stands below the table: a worker's events do not have it."""
    assert re.search(r"`sent` .*`task_send_sent_event`", TABLE, re.DOTALL)
    states = {
        probe: {state for state in ("sent", "succeeded") if scene.has("celery_tasks_total", probe, state)}
        for probe in (TOLD, ASKED)
    }
    assert states == {TOLD: {"sent", "succeeded"}, ASKED: {"succeeded"}}


def test_every_claim_that_is_tested_is_made() -> None:
    """Otherwise the table was not read."""
    assert {(row.needs, row.without) for row in ROWS} == CLAIMS.keys()


def test_the_thirteen_are_what_the_example_declares() -> None:
    """Name, type and labels of those that are there, and no more of the thirteen are than the table says."""
    urls = {"DATABASE_URL": "postgresql://127.0.0.1/x", "REDIS_URL": "redis://127.0.0.1", "RABBITMQ_URL": "amqp://127.0.0.1"}
    probes = load(EXAMPLE, urls).probes.values()
    declared = {metric.name: (str(metric.kind), set(metric.labels)) for probe in probes for metric in probe.declared()}
    there = {name: (row.kind, set(row.labels)) for row in ROWS if row.kind for name in row.names}
    coming = {name for row in ROWS if not row.kind for name in row.names}
    assert len(there) + len(coming) == 13
    assert {name: declared[name] for name in there} == there
    assert coming.isdisjoint(declared)
