"""The exporter from outside: a child process, a real PostgreSQL, real faults, asked over HTTP."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.demo.servers import Postgres
from tests.faults import hanging_names
from tests.running import Running
from tests.servers import eventually_now, execute, free_port, is_listening, open_fds, start_postgres

DATA = Path(__file__).parent.parent / "data"

CANARY = "c4nary-pa55w0rd"

PrivatePostgres = Callable[..., Awaitable[Postgres]]

INTERVAL = 0.3
TIMEOUT = 0.3

CONFIG = """
defaults: {{interval: 300ms, timeout: 300ms}}
probes:
  db:
    type: postgres
    url: {database}
    queries:
      executed:
        sql: SELECT symbol, count(*) AS total FROM trades WHERE status = 'executed' GROUP BY symbol
        metrics:
          trades_executed_total: {{type: counter, help: Trades executed., value: total, labels: [symbol]}}
      open:
        sql: SELECT count(*) AS open FROM opportunities WHERE status = 'active'
        metrics:
          active_arbitrage_opportunities: {{type: gauge, help: Opportunities that are open., value: open}}
  app:
    type: http
    url: {app}
    bearer_token: {canary}
    headers: {{X-Api-Key: {canary}}}
    aliases: [platform]
    critical: false
"""

TABLES = (
    "CREATE TABLE trades (id bigserial PRIMARY KEY, symbol text, status text)",
    "CREATE TABLE opportunities (id bigserial PRIMARY KEY, status text)",
    "INSERT INTO trades (symbol, status) VALUES ('BTC/USDT', 'executed'), ('BTC/USDT', 'executed'), ('ETH/USDT', 'failed')",
    "INSERT INTO opportunities (status) VALUES ('active'), ('active'), ('expired')",
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server of this module's own, to freeze and to kill."""
    server = start_postgres()
    yield server
    server.close()


class _Ok(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Says nothing."""


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """The URL of a small HTTP server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Ok) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/health"
        server.shutdown()
        thread.join()


@pytest.fixture
async def trading(postgres: Postgres) -> str:
    """The URL of the server's database with the two tables in it."""
    await execute(postgres.url, "DROP TABLE IF EXISTS trades, opportunities", *TABLES)
    return postgres.url


@pytest.fixture
def running(tmp_path: Path, trading: str, app: str) -> Iterator[Running]:
    """An exporter that watches both, healthy and with all of its collectors run once."""
    configuration = CONFIG.format(database=trading, app=app, canary=CANARY)
    with Running(tmp_path, configuration) as exporter:
        eventually_now(lambda: exporter.health()["status"] == "healthy", 10)
        eventually_now(lambda: len(exporter.samples("sidecar_collector_success")) == 7, 10)
        yield exporter


def test_from_yaml_to_health_and_metrics(running: Running) -> None:
    """The whole path once: the trading numbers come out of tables nobody changed."""
    assert running.samples("trades_executed_total", "active_arbitrage", "pg_up", "probe_success") == {
        'trades_executed_total{probe="db",symbol="BTC/USDT"}': 2.0,
        'active_arbitrage_opportunities{probe="db"}': 2.0,
        'pg_up{probe="db"}': 1.0,
        'probe_success{probe="app"}': 1.0,
    }
    assert set(running.samples("sidecar_collector_success").values()) == {1.0}
    text = running.get("/health.txt")[1].splitlines()
    assert text[0].startswith("healthy  since ")
    assert [line.split()[:3] for line in text[1:]] == [["[+]", "app", "healthy"], ["[+]", "db", "healthy"]]
    assert running.get("/health/platform")[0] == 200
    assert running.get("/health/nobody")[0] == 404


def test_the_page_pleases_promtool_and_the_client_parser(running: Running) -> None:
    """Three oracles: promtool, the client's parser, and our own look for duplicates, which both of them accept."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing; as root: apt-get install -y --no-install-recommends prometheus"
    text = running.get("/metrics")[1]
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    # the names that people's dashboards already query are its only exceptions
    assert (result.stdout + result.stderr).splitlines() == (DATA / "promtool-complaints.txt").read_text().splitlines()
    openmetrics = running.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")[1]
    assert openmetrics.endswith("# EOF\n")
    families = parse_openmetrics(openmetrics)  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"trades_executed", "pg_up", "sidecar_probe_runs"}
    series = sorted(line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#"))
    assert all(one != other for one, other in pairwise(series))


def seconds_until(condition: Callable[[], bool], within: float) -> float:
    began = time.monotonic()
    eventually_now(condition, within)
    return time.monotonic() - began


@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_a_dead_server_is_named_in_time_and_healed_in_time(running: Running, postgres: Postgres, how: str) -> None:
    """Detection, answers meanwhile, recovery, and nothing left open."""
    before = open_fds(running.process.pid)
    healthy = _scrape_p99(running)
    postgres.freeze() if how == "freeze" else postgres.kill()
    try:
        detected = seconds_until(lambda: running.status("db") == "unhealthy", 15)
        eventually_now(lambda: running.health("db")["circuit"]["state"] == "open", 15)
        assert running.health()["root_causes"] == ["db"]
        assert running.health("db")["reason"] in (["timeout"] if how == "freeze" else ["refused", "reset", "not_ready"])
        assert running.status("app") == "healthy"
        assert running.samples("pg_up")['pg_up{probe="db"}'] == 0
        meanwhile = _scrape_p99(running)
    finally:
        postgres.thaw() if how == "freeze" else postgres.restart()
    rest = float(running.health("db")["circuit"]["next_attempt_in_seconds"] or 0.0)
    healed = seconds_until(lambda: running.status("db") == "healthy", 15)
    eventually_now(lambda: not open_fds(running.process.pid) - before, 5)
    bound = INTERVAL + 2 * TIMEOUT + INTERVAL + 1
    print(f"{how}: detected {detected:.2f}s (bound {bound:.2f}), healed {healed:.2f}s after a wait of {rest:.2f}s")
    print(f"{how}: slowest of 100 scrapes {healthy:.1f} ms healthy, {meanwhile:.1f} ms meanwhile")
    assert detected <= 3 * bound
    assert healed <= 3 * (rest + 2 * (INTERVAL + TIMEOUT) + 1)
    assert meanwhile <= 10 * max(2 * healthy, 30)


def _scrape_p99(running: Running) -> float:
    """Milliseconds of the slowest of a hundred scrapes, the median of three rounds."""
    return median(max(_scrape_ms(running) for _ in range(100)) for _ in range(3))


def _scrape_ms(running: Running) -> float:
    began = time.perf_counter()
    running.get("/metrics")
    return (time.perf_counter() - began) * 1000


def test_sigterm_ends_in_order_within_five_seconds(running: Running) -> None:
    """An orderly end is what Kubernetes and Docker wait for."""
    assert running.terminate(5) == 0
    assert "Traceback" not in running.said


def test_sigterm_ends_in_time_with_everything_hanging(tmp_path: Path, postgres: Postgres) -> None:
    """Frozen servers and lookups that never answer: threads that hang in getaddrinfo must not hold up the end."""
    names = [f"hang-{number}.internal" for number in range(12)]
    probes = "".join(f"  p{n}: {{type: http, url: 'http://{name}/'}}\n" for n, name in enumerate(names))
    configuration = f"probes:\n{probes}  db: {{type: postgres, url: {postgres.url}, interval: 300ms}}\n"
    with Running(tmp_path, configuration, hanging_names(tmp_path / "site", *names)) as exporter:
        eventually_now(lambda: exporter.status("db") == "healthy", 10)
        postgres.freeze()
        try:
            eventually_now(lambda: exporter.status("db") == "unhealthy", 10)
            assert exporter.terminate(5) == 0
        finally:
            postgres.thaw()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_anything_has_begun_ends_it_without_a_traceback(tmp_path: Path, number: int) -> None:
    """A container that is stopped while it starts: its first process would not even hear a SIGTERM."""
    (tmp_path / "config.yaml").write_text("probes:\n  app: {type: http, url: 'http://127.0.0.1:1/'}\n")
    command = [sys.executable, "-X", "importtime", "-m", "exporter", "--listen", "127.0.0.1:0"]
    env = {"PATH": "", "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "aiohttp" in line:  # half-way through the imports
                break
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(5) == (0 if number == signal.SIGTERM else 130)
    assert "Traceback" not in rest


def test_readiness_fails_first_and_serving_goes_on_while_draining(tmp_path: Path, app: str) -> None:
    """A load balancer must see it before the port is closed; no target makes it unready."""
    configuration = f"web: {{drain: 1s}}\nprobes:\n  app: {{type: http, url: '{app}'}}\n"
    with Running(tmp_path, configuration) as exporter:
        assert [exporter.get(path)[0] for path in ("/livez", "/readyz", "/startupz")] == [200, 200, 200]
        exporter.process.send_signal(signal.SIGTERM)
        eventually_now(lambda: exporter.get("/readyz")[0] == 503, 0.9)
        assert exporter.get("/livez")[0] == 200
        assert exporter.process.wait(5) == 0


def test_a_name_that_never_resolves_is_dns_and_the_others_are_on_time(tmp_path: Path, trading: str, app: str) -> None:
    """One lookup in flight per name, in a thread of its own."""
    configuration = CONFIG.format(database=trading, app="http://hang.internal/", canary=CANARY)
    with Running(tmp_path, configuration, hanging_names(tmp_path / "site", "hang.internal")) as exporter:
        eventually_now(lambda: exporter.status("app") == "unhealthy", 10)
        assert exporter.health("app")["reason"] == "dns"
        assert exporter.status("db") == "healthy"
        began = exporter.samples("sidecar_probe_runs_total{", "sidecar_probe_skipped")
        eventually_now(lambda: _runs(exporter) >= _total(began) + 5, 10)
        skipped = exporter.samples("sidecar_probe_skipped_total")
        assert skipped['sidecar_probe_skipped_total{probe="db",reason="overlap"}'] == 0
        assert exporter.get("/health")[0] == 200


def _total(samples: dict[str, float]) -> float:
    return samples['sidecar_probe_runs_total{probe="db",outcome="success"}']


def _runs(exporter: Running) -> float:
    return _total(exporter.samples("sidecar_probe_runs_total"))


@pytest.mark.parametrize("fault", ["healthy", "frozen"])
async def test_no_secret_leaves(tmp_path: Path, private_postgres: PrivatePostgres, fault: str) -> None:
    """The password that is right, beside a healthy server and one that hangs; every fault else is for `test_canaries`."""
    server = await private_postgres()
    secrets = (CANARY, server.password)
    configuration = CONFIG.format(database=server.url, app=f"http://u:{CANARY}x@127.0.0.1:1/?token={CANARY}", canary=CANARY)
    configuration = configuration.replace(f"    bearer_token: {CANARY}\n", "")
    with Running(tmp_path, configuration) as exporter:
        eventually_now(lambda: exporter.status("app") == "unhealthy", 10)
        if fault == "frozen":
            server.freeze()
        expected = {"healthy": "healthy"}.get(fault, "unhealthy")
        eventually_now(lambda: exporter.status("db") == expected, 10)
        left = [exporter.get(path)[1] for path in ("/health", "/health.txt", "/metrics", "/", "/health/db", "/api/v1/probes")]
        server.thaw()
        exporter.terminate(5)
        for text in (*left, exporter.said):
            assert not any(secret in text for secret in secrets)


def test_it_starts_and_says_so_with_every_target_down(tmp_path: Path) -> None:
    """A target that is down when we start is a finding, never an error of ours."""
    configuration = CONFIG.format(database="postgresql://x@127.0.0.1:1/x", app="http://127.0.0.1:1/", canary=CANARY)
    with Running(tmp_path, configuration) as exporter:
        assert exporter.get("/health")[0] == 503
        assert exporter.get("/livez")[0] == 200
        eventually_now(lambda: exporter.status("db") == "unhealthy", 10)
        assert exporter.health()["root_causes"] == ["app", "db"]


def test_the_environment_alone_is_enough(tmp_path: Path, trading: str) -> None:
    """`DATABASE_URL=… exporter run` is the first thing people try."""
    with Running(tmp_path, None, {"DATABASE_URL": trading}) as exporter:
        eventually_now(lambda: exporter.status("db") == "healthy", 10)
        assert exporter.samples("pg_up") == {'pg_up{probe="db"}': 1.0}
        (told,) = (line for line in exporter.said.splitlines() if "the login is the application's own (DATABASE_URL)" in line)
        assert " INFO " in told  # nothing is wrong


def _cli(*arguments: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    source = str(Path(__file__).parent.parent.parent)
    command = [sys.executable, "-m", "exporter", *arguments]
    env = {"PATH": "", "PYTHONPATH": source, **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, env=env)


def test_probe_runs_once_and_its_exit_status_follows_the_check(tmp_path: Path, trading: str) -> None:
    """What an operator types when the page says red."""
    configuration = CONFIG.format(database=trading, app="http://127.0.0.1:1/", canary=CANARY)
    (tmp_path / "config.yaml").write_text(configuration)
    good = _cli("probe", "db", folder=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert 'trades_executed_total{probe="db",symbol="BTC/USDT"} 2' in good.stdout
    bad = _cli("probe", "platform", "--format", "json", folder=tmp_path)
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["runs"][0]["reason"] == "refused"
    metrics = _cli("-c", "config.yaml", "probe", "db", "--format", "metrics", folder=tmp_path)
    assert "# TYPE pg_up gauge" in metrics.stdout
    both = _cli("probe", "db", "app", "db", "--format", "json", folder=tmp_path)
    assert (both.returncode, [told["probe"] for told in json.loads(both.stdout)]) == (1, ["db", "app"])
    page = _cli("probe", "db", "app", "--format", "metrics", folder=tmp_path).stdout
    assert page.count("# TYPE sidecar_probe_up gauge") == 1
    assert 'sidecar_probe_status{probe="db",status="healthy"} 1' in page
    unknown = _cli("probe", "nobody", folder=tmp_path)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)


def test_a_probe_that_cannot_be_loaded_is_one_finding(tmp_path: Path, app: str) -> None:
    """A driver that is not there, or a constructor that raises, must not take the other probes down, nor print what it holds."""
    (tmp_path / "asyncpg.py").write_text(f"raise ImportError('no {CANARY}', name='libpq')")
    configuration = CONFIG.format(database=f"postgresql://u:{CANARY}@127.0.0.1:1/x", app=app, canary=CANARY)
    with Running(tmp_path, configuration, {"PYTHONPATH": str(tmp_path)}) as exporter:
        eventually_now(lambda: exporter.status("app") == "healthy", 10)
        broken = exporter.health("db")
        assert (broken["status"], broken["reason"]) == ("unhealthy", "internal")
        assert broken["message"] == "type postgres cannot be loaded: libpq is missing; install it again"
        assert exporter.terminate(5) == 0
        assert CANARY not in exporter.said


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">/dev/full 2>&1"])
def test_it_runs_and_ends_with_its_terminal_gone(tmp_path: Path, closed: str) -> None:
    """Started by a supervisor that gives it no terminal, or onto a disk that is full."""
    (tmp_path / "config.yaml").write_text(
        f"listen: 127.0.0.1:{free_port()}\nprobes:\n  app: {{type: http, url: 'http://127.0.0.1:1/'}}\n"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    command = f"exec {sys.executable} -m exporter run {closed}"
    with subprocess.Popen(["sh", "-c", command], cwd=tmp_path, env=env) as process:
        port = (tmp_path / "config.yaml").read_text().partition("\n")[0].rpartition(":")[2]
        eventually_now(lambda: is_listening(int(port)), 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_check_prints_every_problem_and_touches_nothing(tmp_path: Path) -> None:
    """All at once, each with its place, and exit status 2."""
    (tmp_path / "config.yaml").write_text(
        "probes:\n  db: {type: postgres, url: 'postgresql://h/x', timout: 3s}\n  app: {type: htp}\n"
    )
    result = _cli("check", folder=tmp_path)
    assert result.returncode == 2
    assert len((result.stdout + result.stderr).splitlines()) == 2
    assert "config.yaml:2:" in result.stdout + result.stderr
    assert "timeout" in result.stdout + result.stderr


@pytest.mark.parametrize(
    "arguments", [("run", "-c", "nowhere.yaml"), ("run", "--listen", "127.0.0.1:99999"), ("bogus",), ("--bogus",)]
)
def test_a_usage_error_is_a_plain_sentence_and_status_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Never a traceback at a user."""
    result = _cli(*arguments, folder=tmp_path, DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_one_line_and_status_2(running: Running, tmp_path: Path) -> None:
    """The second thing that goes wrong on a new machine."""
    place = running.url.removeprefix("http://")
    result = _cli("run", "--listen", place, folder=tmp_path)
    assert result.returncode == 2
    assert place in result.stderr
    assert len([line for line in result.stderr.splitlines() if line]) == 1
