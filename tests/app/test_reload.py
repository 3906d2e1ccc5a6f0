"""Reloading, in this process: what goes on undisturbed, what leaves at once, what is refused, and what is left open."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from exporter.app import loading
from exporter.app.exporter import Exporter
from exporter.app.loading import Loaded
from exporter.app.reload import Origin, Reloader
from exporter.config import Configuration, load
from exporter.model import CircuitState, Reason, Status
from exporter.secret import Redactor
from exporter.web import Refused
from tests.faults import resetting, silent
from tests.servers import closed_port, eventually, execute, fetch, open_fds

LOCKS = "sidecar_collector_success{collector=locks,probe=db}"
QUICK = "{interval: 200ms, timeout: 200ms}"
LISTEN = "127.0.0.1:0"


class Subject:
    """An exporter with its reloader, that reads `text` from a file; at work inside `async with`."""

    def __init__(self, folder: Path, text: str, **environ: str) -> None:
        self.path = folder / "config.yaml"
        self.environ = environ
        self.applied: list[Configuration] = []
        self.write(text)

    def write(self, text: str) -> None:
        self.path.write_text(f"defaults: {QUICK}\n{text}")

    def read(self, content: bytes | None = None) -> Configuration:
        return load(self.path, self.environ, listen=LISTEN, content=content)

    async def reload(self, text: str) -> str:
        self.write(text)
        return await self.reloader.reload()

    async def __aenter__(self) -> Self:
        self.exporter = Exporter(await asyncio.to_thread(self.read), Redactor())
        self.reloader = Reloader(self.exporter, Origin(self.path, self.read, self.applied.append))
        self.exporter.auth_failed = self.reloader.doubt
        self.server = await self.exporter.listen(self.reloader)
        await self.exporter.start()
        self.reloader.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.reloader.aclose()
        await self.exporter.schedule.aclose()
        await self.server.aclose()

    def status(self, name: str) -> Status:
        return next(probe.status for probe in self.exporter.state.snapshot().probes if probe.name == name)

    def reason(self, name: str) -> Reason | None:
        return next(probe.reason for probe in self.exporter.state.snapshot().probes if probe.name == name)

    def circuit(self, name: str) -> CircuitState:
        return next(probe.circuit.state for probe in self.exporter.state.snapshot().probes if probe.name == name)

    def samples(self, prefix: str = "") -> dict[str, float]:
        families = parse(self.exporter.page(openmetrics=False).decode())
        samples = [sample for family in families for sample in family.samples if sample.name.startswith(prefix)]
        return {f"{s.name}{{{','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}}}": s.value for s in samples}


def postgres(url: str, **keys: str) -> str:
    further = "".join(f", {key}: '{value}'" for key, value in keys.items())
    return f"  db: {{type: postgres, url: '{url}'{further}}}\n"


@pytest.fixture
async def refused() -> AsyncIterator[str]:
    """A URL where nobody listens."""
    with closed_port() as port:
        yield f"http://127.0.0.1:{port}/"


async def test_an_unchanged_probe_keeps_connection_circuit_and_series(tmp_path: Path, database: str, refused: str) -> None:
    """A reload of one thing is no restart of everything."""
    text = f"probes:\n{postgres(database)}  app: {{type: http, url: '{refused}', interval: 1s, timeout: 200ms}}\n"
    async with Subject(tmp_path, text) as subject:
        await eventually(lambda: bool(subject.samples("pg_stat_database")), 10)
        await eventually(lambda: subject.circuit("app") is CircuitState.OPEN, 15)
        backends = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sidecar-exporter' ORDER BY pid"
        before, runs = await fetch(database, backends), subject.samples("sidecar_probe_runs_total")
        said = await subject.reload(text + "  more: {type: http, url: 'http://127.0.0.1:9/', critical: false}\n")
        assert said == "reloaded: added more; 2 as before"
        assert subject.circuit("app") is CircuitState.OPEN
        assert subject.samples("pg_stat_database")
        assert set(before) <= set(await fetch(database, backends))
        after = subject.samples("sidecar_probe_runs_total")
        assert all(after[series] >= value for series, value in runs.items())
        assert subject.samples("sidecar_config_last_reload_successful") == {"sidecar_config_last_reload_successful{}": 1.0}


async def test_a_removed_probe_leaves_at_once_though_it_hangs(tmp_path: Path, database: str) -> None:
    """Its series, its health and its connection; and what is added does not wait for what hangs."""
    async with silent() as port:
        keep = f"probes:\n{postgres(database)}"
        hung = f"  hung: {{type: http, url: 'http://127.0.0.1:{port}/', interval: 60s, timeout: 60s, aliases: [old]}}\n"
        async with Subject(tmp_path, keep + hung) as subject:
            await eventually(lambda: subject.status("db") is Status.HEALTHY, 10)
            reloading = asyncio.create_task(subject.reload(keep))
            await eventually(lambda: not any("hung" in series for series in subject.samples()), 5)
            assert await reloading == "reloaded: removed hung; 1 as before"
            assert [probe.name for probe in subject.exporter.state.snapshot().probes] == ["db"]


async def test_a_changed_probe_begins_anew_and_counts_on(tmp_path: Path, refused: str) -> None:
    """Another target has another verdict; a counter that fell would look like a restart."""
    text = f"probes:\n  app: {{type: http, url: '{refused}'}}\n"
    async with Subject(tmp_path, text) as subject, resetting() as port:
        await eventually(lambda: subject.status("app") is Status.UNHEALTHY, 10)
        failures = subject.samples("sidecar_probe_failures_total")["sidecar_probe_failures_total{probe=app,reason=refused}"]
        await subject.reload(f"probes:\n  app: {{type: http, url: 'http://127.0.0.1:{port}/'}}\n")
        await eventually(lambda: "reason=reset" in str(subject.samples("sidecar_probe_failures_total")), 10)
        now = subject.samples("sidecar_probe_failures_total")["sidecar_probe_failures_total{probe=app,reason=refused}"]
        assert now >= failures


async def test_a_password_rotated_while_the_file_is_bad_heals_too(tmp_path: Path, database: str) -> None:
    """A slip in one probe is no reason to lock another one out; it is still told as what it is."""
    secret = tmp_path / "password"
    secret.write_text("first\n")
    await execute(database, "DROP ROLE IF EXISTS bound", "CREATE ROLE bound LOGIN PASSWORD 'first'")
    text = f"probes:\n{postgres(database, username='bound', password=f'${{file:{secret}}}')}"
    async with Subject(tmp_path, text) as subject:
        await eventually(lambda: subject.status("db") is Status.HEALTHY, 10)
        with pytest.raises(Refused):
            await subject.reload(text + "  app: {type: htp}\n")
        secret.write_text("second\n")
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bound'"
        await execute(database, "ALTER ROLE bound PASSWORD 'second'", ended)
        await eventually(lambda: len(subject.applied) == 1, 10)
        await eventually(lambda: subject.status("db") is Status.HEALTHY, 10)
        assert not subject.exporter.state.snapshot().reload.successful
    await execute(database, "DROP ROLE bound")


async def test_a_password_that_only_collectors_have_been_refused_for_heals_too(tmp_path: Path, database: str) -> None:
    """The check keeps its connection from before the rotation and is content; the collectors had to log in again."""
    secret = tmp_path / "password"
    secret.write_text("first\n")
    await execute(database, "DROP ROLE IF EXISTS turning", "CREATE ROLE turning LOGIN PASSWORD 'first'")
    text = f"probes:\n{postgres(database, username='turning', password=f'${{file:{secret}}}')}"
    async with Subject(tmp_path, text) as subject:
        await eventually(lambda: bool(subject.samples("pg_locks_count")), 10)
        secret.write_text("second\n")
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'turning' AND query NOT LIKE '%SELECT 1'"
        await execute(database, "ALTER ROLE turning PASSWORD 'second'", others)
        await eventually(lambda: len(subject.applied) == 1, 10)
        await eventually(lambda: subject.samples("sidecar_collector_success").get(LOCKS) == 1.0, 10)
    await execute(database, "DROP ROLE turning")


async def test_a_metric_that_was_written_anew_has_its_new_labels_and_help(tmp_path: Path, database: str) -> None:
    """Also where no page was read in between."""

    def text(label: str, told: str) -> str:
        query = "SELECT 'BTC' AS symbol, 'BTC' AS pair, 1 AS n"
        metric = f"{{type: counter, help: {told}, value: n, labels: [{label}]}}"
        return f'probes:\n{postgres(database)[:-2]}, queries: {{q: {{sql: "{query}", metrics: {{things_total: {metric}}}}}}}}}\n'

    def read() -> bool:
        blocks = subject.exporter.state.snapshot().tallies[0].blocks
        return any(block.family.metric.name == "things_total" for block in blocks)

    async with Subject(tmp_path, text("symbol", "Old.")) as subject:
        await eventually(lambda: subject.samples("things_total") == {"things_total{probe=db,symbol=BTC}": 1.0}, 10)
        await subject.reload(text("pair", "New."))
        await eventually(read, 10)
        assert subject.samples("things_total") == {"things_total{pair=BTC,probe=db}": 1.0}
        assert b"# HELP things_total New.\n" in subject.exporter.page(openmetrics=False)


async def test_what_every_series_carries_changes_with_no_probe_disturbed(tmp_path: Path, database: str) -> None:
    """`labels` and the token take effect; the probe's connection knows nothing of it."""
    async with Subject(tmp_path, f"labels: {{env: old}}\nprobes:\n{postgres(database)}") as subject:
        await eventually(lambda: bool(subject.samples("pg_stat_database")), 10)
        said = await subject.reload(f"labels: {{env: new}}\nweb: {{token: h0cus}}\nprobes:\n{postgres(database)}")
        assert said == "reloaded: 1 as before"
        series = subject.samples()
        assert all("env=new" in one for one in series if one.startswith(("pg_", "sidecar_probe", "sidecar_health", "process_cpu")))
        async with aiohttp.ClientSession() as client:
            headers = {"Authorization": "Bearer h0cus"}
            async with client.post(f"{subject.server.url}/-/reload", headers=headers) as answer:
                assert (answer.status, await answer.text()) == (200, "reloaded: 1 as before\n")


BAD = "probes:\n  db: {type: postgres, url: 'postgresql://127.0.0.1/x', timout: 3s}\n  app: {type: htp}\n"


async def test_a_bad_file_changes_nothing_and_every_problem_is_told(
    tmp_path: Path, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the answer, the metric, the log; the good file after it takes effect."""
    good = f"probes:\n{postgres(database)}"
    async with Subject(tmp_path, good) as subject:
        await eventually(lambda: subject.status("db") is Status.HEALTHY, 10)
        loaded_at = subject.samples("sidecar_config_last_reload_success")
        with pytest.raises(Refused) as refused:
            await subject.reload(BAD)
        lines = str(refused.value).splitlines()
        assert lines[0] == "not reloaded, the configuration before goes on:"
        assert [line.partition("config.yaml:")[2].partition(" ")[0] for line in lines[1:]] == ["3:57:", "4:15:"]
        assert subject.samples("sidecar_config_last_reload_successful") == {"sidecar_config_last_reload_successful{}": 0.0}
        assert subject.samples("sidecar_config_last_reload_success_t") == {
            series: value for series, value in loaded_at.items() if "timestamp" in series
        }
        told = subject.exporter.state.snapshot().reload.message
        assert told is not None
        assert told.endswith("did you mean `timeout`? (and 1 more)")
        assert f"configuration not reloaded, the one before goes on: {told}" in caplog.messages
        assert subject.status("db") is Status.HEALTHY
        assert subject.applied == []
        await subject.reload(good)
        assert subject.exporter.state.snapshot().reload.successful
        assert len(subject.applied) == 1


async def test_a_file_that_was_touched_is_no_news_and_one_that_went_back_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is what was read last, by whichever way; bad or good, the same is told once."""
    caplog.set_level("INFO")
    one, two = ("probes:\n  app: {type: http, url: 'http://127.0.0.1:9/" + path + "'}\n" for path in "ab")
    async with Subject(tmp_path, one) as subject:

        async def noticed(text: str) -> list[str]:
            caplog.clear()
            subject.write(text)
            subject.reloader.noticed()
            await eventually(lambda: not subject.reloader._tasks, 5)
            return [message.partition(":")[0] for message in caplog.messages]

        assert await noticed(one) == []
        await subject.reload(two)
        assert await noticed(one) == ["configuration reloaded"]
        with pytest.raises(Refused):
            await subject.reload(BAD)
        assert await noticed(BAD) == []
        assert await noticed(one) == ["configuration reloaded"]
        assert subject.exporter.state.snapshot().reload.successful


async def test_a_file_that_cannot_be_read_in_time_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that hangs is one line, not a process that hangs; the end does not wait for it either."""
    monkeypatch.setattr("exporter.app.reload.READ_SECONDS", 0.2)
    pipe = tmp_path / "secret"
    os.mkfifo(pipe)
    async with Subject(tmp_path, "probes:\n  app: {type: http, url: 'http://127.0.0.1:9/'}\n") as subject:
        hanging = f"probes:\n  app: {{type: http, url: 'http://127.0.0.1:9/', bearer_token: '${{file:{pipe}}}'}}\n"
        with pytest.raises(Refused, match="could not be read within"):
            await subject.reload(hanging)
        for _ in range(5):
            with pytest.raises(Refused, match="could not be read within"):
                await subject.reloader.reload()
        assert [thread.name for thread in threading.enumerate()].count("read configuration") == 1
    pipe.open("wb", buffering=0).close()  # lets the thread go


async def test_a_rotated_password_heals_by_itself(tmp_path: Path, database: str) -> None:
    """The file behind `${file:}` is read again once the target has refused what it held before."""
    secret = tmp_path / "password"
    secret.write_text("first\n")
    await execute(database, "DROP ROLE IF EXISTS rotating", "CREATE ROLE rotating LOGIN PASSWORD 'first'")
    text = f"probes:\n{postgres(database, username='rotating', password=f'${{file:{secret}}}')}"
    async with Subject(tmp_path, text) as subject:
        await eventually(lambda: subject.status("db") is Status.HEALTHY, 10)
        await execute(
            database,
            "ALTER ROLE rotating PASSWORD 'second'",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'",
        )
        await eventually(lambda: subject.exporter.state.snapshot().probes[0].reason is Reason.AUTH, 10)
        secret.write_text("second\n")
        await eventually(lambda: subject.status("db") is Status.HEALTHY, 10)
        assert "second" in {secret.reveal() for secret in subject.applied[-1].secrets}
    await execute(database, "DROP ROLE rotating")


class Scraping:
    """Scrapes as fast as it is answered, inside the block; `seen` is the count of the unchanged probe's good checks, each time."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/metrics"
        self.seen: list[float] = []

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._scrape())
        await eventually(lambda: len(self.seen) > 3, 5)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))

    async def _scrape(self) -> None:
        series = 'sidecar_probe_runs_total{probe="db",outcome="success"'
        async with aiohttp.ClientSession() as client:
            while True:
                async with client.get(self._url) as answer:
                    (line,) = (line for line in (await answer.text()).splitlines() if line.startswith(series))
                assert answer.status == 200
                self.seen.append(float(line.rpartition(" ")[2]))


def held() -> dict[str, int]:
    return {"fds": open_fds().total(), "tasks": len(asyncio.all_tasks()), "threads": threading.active_count()}


async def test_whoever_stops_waiting_for_a_reload_does_not_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that goes away, or its deadline, must not leave probes between two configurations."""
    one, two = (f"probes:\n  app: {{type: http, url: 'http://127.0.0.1:9/{path}'}}\n" for path in "ab")
    async with Subject(tmp_path, one) as subject:
        removing = asyncio.Event()
        remove = subject.exporter.schedule.remove

        async def slow(*names: str) -> None:
            removing.set()
            await asyncio.sleep(0.1)
            await remove(*names)

        monkeypatch.setattr(subject.exporter.schedule, "remove", slow)
        waiting = asyncio.create_task(subject.reload(two))
        await removing.wait()
        waiting.cancel()
        await eventually(lambda: subject.status("app") is Status.UNHEALTHY, 10)


async def test_code_that_cannot_be_loaded_in_time_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on a mount that hangs costs its own probes, neither those of another type nor the next reload."""
    monkeypatch.setattr("exporter.app.loading.LOAD_SECONDS", 0.2)
    one, two = (f"probes:\n  app: {{type: http, url: 'http://127.0.0.1:9/{path}'}}\n" for path in "ab")
    other = "  redis: {type: redis, url: 'redis://127.0.0.1:9'}\n"
    free = threading.Event()
    async with Subject(tmp_path, one) as subject:
        made = loading.made

        def hang(name: str, *arguments: Any) -> Loaded:
            if name == "app":
                free.wait()
            return made(name, *arguments)

        monkeypatch.setattr(loading, "made", hang)
        await subject.reload(two + other)
        assert subject.reason("app") is Reason.INTERNAL
        await eventually(lambda: subject.reason("redis") is Reason.REFUSED, 5)
        free.set()
        await subject.reload(one + other)
        await eventually(lambda: subject.reason("app") is Reason.REFUSED, 5)


@pytest.mark.parametrize("place", ["read", "applied"])
async def test_a_bug_of_ours_in_a_reload_is_a_refusal_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The metric must not say that all is well."""

    def broken(*_: object) -> Configuration:
        raise KeyError("hunter22")

    async with Subject(tmp_path, "probes:\n  app: {type: http, url: 'http://127.0.0.1:9/'}\n") as subject:
        origin = replace(Origin(subject.path, subject.read, subject.applied.append), **{place: broken})  # type: ignore[arg-type]
        monkeypatch.setattr(subject.reloader, "_origin", origin)
        with pytest.raises(Refused, match="unexpected KeyError while it was") as refused:
            await subject.reloader.reload()
        assert "hunter22" not in str(refused.value)
        assert not subject.exporter.state.snapshot().reload.successful


@pytest.mark.timeout(180)
async def test_five_hundred_reloads_under_load_leave_nothing_and_cost_nothing(tmp_path: Path, database: str) -> None:
    """Good and bad files in turn, one probe hanging: every scrape is answered, the unchanged probe counts on, nothing is left."""

    def text(port: int, number: int) -> str:
        hung = f"  hung: {{type: http, url: 'http://127.0.0.1:{port}/{number}', interval: 60s, timeout: 60s}}\n"
        return f"probes:\n{postgres(database)}{hung}"

    async with silent() as port, Subject(tmp_path, text(port, 0)) as subject:
        await eventually(lambda: bool(subject.samples("pg_locks_count")), 10)
        async with Scraping(subject.server.url) as scraping:
            before, began = held(), time.monotonic()
            for number in range(1, 251):
                assert await subject.reload(text(port, number)) == "reloaded: changed hung; 1 as before"
                with pytest.raises(Refused):
                    await subject.reload(BAD)
            print(
                f"{500 / (time.monotonic() - began):.0f} reloads/s, {len(scraping.seen)} scrapes; {before} before, {held()} after"
            )
            assert not scraping.task.done()
            assert scraping.seen == sorted(scraping.seen)
            assert scraping.seen[-1] > scraping.seen[0]
            # the connection of one check and its peer's may be on their way
            await eventually(lambda: all(now <= before[what] + 2 for what, now in held().items()), 5)
        assert [tally.abandoned for tally in subject.exporter.state.snapshot().tallies] == [0, 0]
