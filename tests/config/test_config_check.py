"""From a text to a configuration: defaults, conversions, and every problem at once and in order."""

import time
from pathlib import Path

import pytest

from exporter.config import Configuration, Listen, Web, load
from exporter.errors import ConfigError, Problem
from exporter.probes import TYPES
from exporter.probes.base import CircuitSettings, RetrySettings, Schedule
from exporter.probes.http.settings import HttpSettings
from exporter.probes.postgres.settings import PostgresSettings
from exporter.secret import Secret

EXAMPLE = Path(__file__).parent.parent.parent / "config.example.yaml"
BARE = "probes:\n  db:\n    type: postgres\n"
DB = "  db:\n    type: postgres\n    url: postgresql://127.0.0.1/trading\n"


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def configured(text: str, **environ: str) -> Configuration:
    """The configuration of a text that has no problem."""
    Path("c.yaml").write_text(text)
    return load(Path("c.yaml"), environ)


def problems(text: str, **environ: str) -> list[str]:
    """Everything that is wrong with a text."""
    Path("c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("c.yaml"), environ)
    return str(caught.value).splitlines()


def db(configuration: Configuration) -> PostgresSettings:
    settings = configuration.probes["db"]
    assert isinstance(settings, PostgresSettings)
    return settings


def test_everything_that_can_be_written_arrives() -> None:
    """The whole top of the file, and the probes in the order written, disabled ones too."""
    configuration = configured(
        "listen: '[::1]:0'\ninstance: trading\nlabels: {env: prod}\nweb: {token: t0ken, details: authorized, drain: 0s}\n"
        "log: {format: json, level: debug}\nprobes:\n  app: {type: http, url: 'http://127.0.0.1/', enabled: false}\n" + DB
    )
    assert configuration.source == "c.yaml"
    assert configuration.listen == Listen("::1", 0)
    assert (configuration.instance, dict(configuration.labels)) == ("trading", {"env": "prod"})
    assert configuration.web == Web(Secret("t0ken"), "authorized", 0.0)
    assert (configuration.log.format, configuration.log.level) == ("json", "debug")
    assert list(configuration.probes) == ["app", "db"]
    assert not configuration.probes["app"].enabled


def test_what_is_not_written_has_its_default() -> None:
    """The numbers of the contract."""
    configuration = configured("probes:\n" + DB)
    assert (configuration.listen, configuration.instance, configuration.web.drain_seconds) == (Listen("", 10190), "default", 0.0)
    probe = db(configuration)
    assert (probe.interval, probe.timeout_seconds, probe.open_after, probe.max_wait_seconds) == (15.0, 5.0, 5, 60.0)


@pytest.mark.parametrize("key", ["labels", "defaults", "web", "log"])
def test_section_whose_lines_are_commented_out_counts_as_absent(key: str) -> None:
    """Commenting out the last line of a section is no mistake."""
    assert configured(f"{key}:\n#  env: prod\nprobes:\n{DB}").probes


def test_json_is_a_configuration_too() -> None:
    """Generated configurations are JSON more often than YAML, and say null for off."""
    text = '{"probes": {"db": {"type": "postgres", "url": "postgresql://127.0.0.1/x", "circuit": null}}}'
    assert db(configured(text)).circuit_settings is None


def test_default_holds_unless_the_probe_writes_its_own() -> None:
    """A key at the probe replaces the default's whole value."""
    configuration = configured(
        "defaults: {interval: 30s, labels: {team: a, tier: b}, retry: none, circuit: {max_wait: 2m}, critical: false}\nprobes:\n"
        + DB
        + "    labels: {team: c}\n    retry: {attempts: 2}\n    interval: 20s\n"
    )
    probe = db(configuration)
    assert (probe.interval, dict(probe.labels), probe.critical) == (20.0, {"team": "c"}, False)
    assert probe.retry == RetrySettings(attempts=2)
    assert isinstance(probe.circuit, CircuitSettings)
    assert probe.max_wait_seconds == 120.0


def test_a_circuit_never_asks_more_often_than_the_schedule() -> None:
    """A wait below the interval would make a load of a target that fails."""
    probe = configured("probes:\n  a: {type: http, url: 'http://127.0.0.1/', interval: 5m, circuit: {max_wait: 1s}}\n").probes["a"]
    assert probe.max_wait_seconds == 300.0


def test_default_timeout_is_lowered_to_an_own_interval() -> None:
    """One default for slow probes must not be an error for every fast one."""
    configuration = configured("defaults: {timeout: 10s}\nprobes:\n" + DB + "    interval: 3s\n")
    assert db(configuration).timeout_seconds == 3.0


@pytest.mark.parametrize(
    ("written", "path"),
    [("defaults: {interval: 1parsec}", "defaults.interval"), ("defaults: {retry: {attempts: 0}}", "defaults.retry.attempts")],
)
def test_problem_of_a_default_is_told_once_where_it_is_written(written: str, path: str) -> None:
    """Not once for every probe that inherits it."""
    text = f"{written}\nprobes:\n{DB}{DB.replace('db:', 'db2:')}"
    assert [line.split(": ")[1] for line in problems(text)] == [path]


def test_variables_are_converted_by_the_type_of_their_field() -> None:
    """What comes in for `${}` is text; a field that takes numbers or switches reads it."""
    text = f"{BARE}    host: ${{HOST}}\n    port: ${{PORT}}\n    critical: ${{CRITICAL}}\n    interval: ${{EVERY}}\n"
    probe = db(configured(text, HOST="127.0.0.1", PORT="6432", CRITICAL="false", EVERY="1m30s"))
    assert (probe.server.place, probe.critical, probe.interval) == ("127.0.0.1:6432", False, 90.0)


def test_collectors_are_a_list_or_a_mapping_to_settings_of_their_own() -> None:
    """Both forms of one file mean the same; what is costly is read less often."""
    text = (
        "probes:\n"
        + DB
        + "    interval: 20s\n    collect:\n      activity:\n      database: {interval: 5m, timeout: 30s, stale_after: 1h}\n"
    )
    probe = db(configured(text))
    assert list(probe.collect) == ["activity", "database"]
    assert (probe.schedule_of("database"), probe.schedule_of("activity")) == (Schedule(300, 30, 3600), Schedule(20, 5, 60))
    assert (
        db(configured("probes:\n" + DB + "    collect: [activity]\n")).collect
        == db(configured("probes:\n" + DB + "    collect: {activity: {}}\n")).collect
    )


def test_stale_after_is_held_to_the_collectors_that_it_is_for() -> None:
    """One with its own is none of the probe's affair, and its own is held to its own interval alone."""
    hourly = "    collect: {database: {interval: 1h, stale_after: 2h}, activity: {}}\n"
    assert db(configured("probes:\n" + DB + "    stale_after: 30s\n" + hourly)).stale_after == 30
    told = problems("probes:\n" + DB + "    stale_after: 30s\n" + hourly.replace(", stale_after: 2h", ""))
    below = "30s is below interval + timeout of collector `database`, 1h + 5s"
    assert told == [f"c.yaml:5:18: probes.db.stale_after: {below}: its series would come and go between runs"]


def test_fields_beside_the_url_win_and_are_taken_literally() -> None:
    """A password from a mounted secret may hold anything."""
    text = "probes:\n" + DB.replace("127.0.0.1", "a%40b:c%2Fd@127.0.0.1:6432") + "    password: 'x%40@:/#'\n    username: u\n"
    server = db(configured(text)).server
    assert (server.username, server.password, server.place) == ("u", Secret("x%40@:/#"), "127.0.0.1:6432")


def test_octal_looking_port_is_decimal() -> None:
    """YAML 1.1 would connect to port 2842."""
    assert db(configured("probes:\n" + DB + "    port: 05432\n")).port == 5432


def test_status_may_be_a_number() -> None:
    """Nobody quotes 204."""
    settings = configured("probes: {app: {type: http, url: 'http://127.0.0.1/', expect_status: [204, 3xx]}}").probes["app"]
    assert isinstance(settings, HttpSettings)
    assert settings.expect_status == ("204", "3xx")


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    """Field rules, rules between fields and rules between probes, all from one run, and also for probes with other problems."""
    text = """\
listens: :10190
labels: {job: x}
defaults: {timeut: 5s}
probes:
  db:
    type: postgres
    url: postgresql://127.0.0.1:99999/trading
    pool: {size: one}
    interval: 15s
    timeout: 20s
    failure_threshold: 3
    circuit: {open_after: 2, close_after: 0}
    depends_on: [app, nowhere]
    queries:
      executed:
        sql: SELECT 1
        metrics:
          trades: {type: counter, help: Trades., value: total, lables: [symbol]}
  app:
    type: htp
    interval: soon
    depends_on: [db]
    aliases: [db, x y]
  cache:
"""
    assert problems(text) == [
        "c.yaml:1:1: listens: unknown key; did you mean `listen`?",
        "c.yaml:2:10: labels.job: `job` is reserved: Prometheus sets it, and would rename yours to exported_job",
        "c.yaml:3:12: defaults.timeut: unknown key; did you mean `timeout`?",
        "c.yaml:7:10: probes.db.url: port 99999 is above 65535",
        "c.yaml:8:18: probes.db.pool.size: not a whole number",
        "c.yaml:10:14: probes.db.timeout: 20s is above the interval, 15s",
        (
            "c.yaml:12:27: probes.db.circuit.open_after: 2 is below failure_threshold, 3:"
            " the circuit would open before the status is confirmed"
        ),
        "c.yaml:12:43: probes.db.circuit.close_after: must be at least 1",
        "c.yaml:13:23: probes.db.depends_on[1]: no such probe; there are app, cache, db",
        "c.yaml:18:11: probes.db.queries.executed.metrics.trades: a counter's name ends in _total",
        "c.yaml:18:64: probes.db.queries.executed.metrics.trades.lables: unknown key; did you mean `labels`?",
        f"c.yaml:20:11: probes.app.type: unknown type; one of {', '.join(TYPES)}; did you mean `http`?",
        "c.yaml:21:15: probes.app.interval: not a duration; write it with a unit, such as 500ms, 15s or 1m30s",
        "c.yaml:22:18: probes.app.depends_on[0]: depends on itself in a circle: app → db → app",
        "c.yaml:23:15: probes.app.aliases[0]: the name is taken by the probe at c.yaml:5:3",
        (
            "c.yaml:23:19: probes.app.aliases[1]: not a name; a name starts with a letter or digit"
            " and holds at most 63 letters, digits, `_`, `.`, `-`"
        ),
        f"c.yaml:24:3: probes.cache: not a mapping; write `type:` (one of {', '.join(TYPES)}) and the probe's keys below it",
    ]


def test_one_mistake_is_told_once() -> None:
    """A value that is missing, unreadable or of the wrong type must not raise a trail of problems that follow from it."""
    assert len(problems("probes:\n  db:\n    type: postgres\n    url: ${NOWHERE}\n")) == 1
    assert len(problems("probes:\n" + DB + "    interval: soon\n    timeout: 20s\n    stale_after: 1s\n")) == 1
    assert len(problems("probes:\n" + DB + "    retry: {attempts: 0}\n")) == 1
    assert len(problems("probes:\n" + DB + "    retry: [fast]\n")) == 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("retry: fats", "probes.db.retry: not one of none, fast, quick, steady, patient, or a mapping; did you mean `fast`?"),
        ("retry: {atempts: 1}", "probes.db.retry.atempts: unknown key; did you mean `attempts`?"),
        ("circuit: {open_aftr: 1}", "probes.db.circuit.open_aftr: unknown key; did you mean `open_after`?"),
        ("tls: {cafile: x}", "probes.db.tls.cafile: unknown key; did you mean `ca_file`?"),
        ("tls: {min_version: TLS11}", "probes.db.tls.min_version: not one of TLS12, TLS13; did you mean `TLS1"),
        ("headers: {}", "probes.db.headers: belongs to probes of type http, not postgres"),
        ("queries: {q: {sq: SELECT 1, sql: x, metrics: {}}}", "probes.db.queries.q.sq: unknown key; did you mean `sql`?"),
        ("queries: {a b: {sql: x, metrics: {}}}", "probes.db.queries.a b: not a name; a name starts with"),
        ("labels: [a]", "probes.db.labels: not a mapping; write `key: value` lines below it"),
        ("max_series: 0", "probes.db.max_series: must be at least 1"),
        ("port: 70000", "probes.db.port: must be at most 65535"),
        ("type2: x", "probes.db.type2: unknown key; did you mean `type`?"),
        ("zzz: x", "probes.db.zzz: unknown key; known here: aliases, circuit, "),
    ],
)
def test_mistake_names_what_is_allowed_or_near(line: str, sentence: str) -> None:
    """A did-you-mean saves the way to the manual."""
    assert any(f": {sentence}" in problem for problem in problems(f"probes:\n{DB}    {line}\n"))


@pytest.mark.parametrize(
    ("listen", "result"),
    [
        (":10190", Listen("", 10190)),
        ("127.0.0.1:0", Listen("127.0.0.1", 0)),
        ("'[::1]:10190'", Listen("::1", 10190)),
        ("localhost:1", Listen("localhost", 1)),
    ],
)
def test_listen_forms(listen: str, result: Listen) -> None:
    """The forms that Prometheus' own exporters take."""
    assert configured(f"listen: {listen}\nprobes:\n{DB}").listen == result


@pytest.mark.parametrize("listen", ["10190", "localhost", "'::1:10190'", "'[::g]:1'", "a:b", "http://x:1", ":70000", "[]"])
def test_other_addresses_are_refused(listen: str) -> None:
    """A bare port, a URL or a broken IPv6 address would listen somewhere nobody meant."""
    told = problems(f"listen: {listen}\nprobes:\n{DB}")
    assert [line.split(": ")[:2] for line in told] == [["c.yaml:1:9", "listen"]]


@pytest.mark.parametrize(
    ("tail", "warned"),
    [
        ("url: postgresql://10.0.0.7/x", True),
        ("url: postgresql://10.0.0.7/x?sslmode=prefer", True),
        ("url: postgresql://10.0.0.7/x?sslmode=verify-full", False),
        ("url: postgresql+asyncpg://10.0.0.7/x?ssl=require", False),
        ("url: postgresql://10.0.0.7/x\n    tls: {}", False),
        ("url: postgresql://10.0.0.7/x?sslmode=disable\n    tls: {}", True),
        ("url: postgresql://127.8.0.1/x", False),
        ("url: postgresql://localhost/x", False),
        ("url: postgresql:///x?host=", False),
        ("host: /run/postgresql", False),
        ("host: db.internal", True),
        ("url: postgresql://127.evil.example/x", True),
        ("url: postgresql://10.0.0.7/x\n    enabled: false", False),
    ],
)
def test_plain_connection_to_another_machine_is_one_warning(tail: str, warned: bool) -> None:
    """It stops nothing, but an operator should have chosen it."""
    warnings = configured(f"probes:\n  db:\n    type: postgres\n    {tail}\n").warnings
    assert [warning.path in ("probes.db.url", "probes.db.host") for warning in warnings] == [True] * warned


def test_plain_http_is_warned_of_even_beside_tls_settings() -> None:
    """`tls:` does not turn http:// into https://."""
    text = "probes: {app: {type: http, url: 'http://app:8000/x?token=hunter2', tls: {}}}"
    assert configured(text).warnings == (
        Problem("c.yaml:1:33", "probes.app.url", "app:8000 is another machine, and nothing demands TLS; use https://"),
    )


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?sslmode=disable&application_name=shop&connect_timeout=3&keepalives_idle=9", []),
        ("?options=-c%20search_path%3Dshop", ["options"]),
        ("?pgbouncer=true&channel_binding=require", ["channel_binding", "pgbouncer"]),
        ("?hunter2%21=x", ["…"]),
    ],
)
def test_a_parameter_of_the_url_that_is_not_read_is_one_warning(query: str, told: list[str]) -> None:
    """What the application asks of its own connections may not be what a query of ours gets; no part of a password is shown."""
    warnings = configured(f"{BARE}    url: postgresql://127.0.0.1/x{query}\n").warnings
    assert sorted(str(warning) for warning in warnings) == [
        f"c.yaml:4:10: probes.db.url: the url's parameter {name} is not read here; what it asks for does not hold for the exporter"
        for name in told
    ]
    assert not configured(f"{BARE}    url: postgresql://127.0.0.1/x{query}\n    enabled: false\n").warnings


def test_details_that_nobody_can_see_are_a_warning(tmp_path: Path) -> None:
    """The keys stay null, so nothing leaks; but nobody meant it so."""
    text = "web: {details: authorized}\nprobes:\n" + DB
    (warning,) = configured(text).warnings
    assert str(warning) == (
        "c.yaml:1:16: web.details: nobody can see messages and details without a token; set web.token or EXPORTER_TOKEN"
    )
    assert configured(text, EXPORTER_TOKEN="t0ken").warnings == ()
    (tmp_path / "token").write_text("t0ken")
    assert configured(text, EXPORTER_TOKEN_FILE=str(tmp_path / "token")).warnings == ()
    assert configured(text.replace("authorized", "authorized, token: t0ken")).warnings == ()


@pytest.mark.parametrize(
    ("retry", "told"),
    [
        ("{initial: 2s}", "c.yaml:5:22: probes.db.retry.initial: 2s is above max, 1s"),
        ("{max: 100ms}", "c.yaml:5:18: probes.db.retry.max: 100ms is below initial, 200ms"),
    ],
)
def test_a_first_wait_above_the_longest_is_told_at_the_one_that_is_written(retry: str, told: str) -> None:
    """The other one is a default, and stands nowhere."""
    assert problems(f"probes:\n{DB}    retry: {retry}\n") == [told]


def test_files_behind_each_probe_are_known_and_read_anew(tmp_path: Path) -> None:
    """After an auth failure a changed secret takes effect by loading again."""
    secret, twin = tmp_path / "secret", tmp_path / "twin"
    secret.write_text("first\n")
    twin.write_text("postgresql://127.0.0.1/x\n")
    text = f"{BARE}    url: ${{DATABASE_URL}}\n    password: ${{file:{secret}}}\n  db2:\n    type: postgres\n    host: a\n"
    configuration = configured(text, DATABASE_URL_FILE=str(twin))
    assert dict(configuration.files) == {"db": (str(secret), str(twin))}
    assert db(configuration).server.password == Secret("first")
    secret.write_text("second\n")
    assert db(configured(text, DATABASE_URL_FILE=str(twin))).server.password == Secret("second")


def test_secrets_are_known_as_written_and_decoded(tmp_path: Path) -> None:
    """The redactor can only blank what it knows: a driver may show either form."""
    (tmp_path / "s").write_text("fr0m-file\n")
    text = (
        "web: {token: t0ken}\nlabels: {env: '${file:s}'}\nprobes:\n"
        "  db: {type: postgres, url: 'postgresql://u:p%40ss@127.0.0.1/x', password: beside}\n"
        "  app: {type: http, url: 'https://a/', method: POST, headers: {Authorization: Bearer h3ader, X-Key: k3y}, body: b0dy}\n"
        "  app2: {type: http, url: 'https://a/', bearer_token: b3arer}\n"
        "  app3: {type: http, url: 'https://a/', basic_auth: {username: u, password: b4sic}}\n"
    )
    known = {secret.reveal() for secret in configured(text).secrets}
    assert known >= {"t0ken", "fr0m-file", "p%40ss", "p@ss", "beside", "Bearer h3ader", "h3ader", "k3y", "b0dy", "b3arer", "b4sic"}


def test_example_checks_clean_with_the_three_variables_alone() -> None:
    """It is the first file that anybody copies, and nothing in it may leave the machine unasked."""
    environ = {"DATABASE_URL": "postgresql://127.0.0.1/x", "REDIS_URL": "redis://127.0.0.1", "RABBITMQ_URL": "amqp://127.0.0.1"}
    configuration = load(EXAMPLE, environ)
    assert configuration.warnings == ()
    assert [probe.server.is_loopback for probe in configuration.probes.values() if probe.enabled and probe.server] == [True] * 5
    assert not configuration.probes["binance"].enabled
    names = {metric.name for probe in configuration.probes.values() for metric in probe.declared()}
    assert names >= {"trades_executed_total", "active_arbitrage_opportunities"}


def test_three_hundred_probes_load_in_well_under_a_second() -> None:
    """A reload must not be felt."""
    probe = (
        DB + "    queries: {q: {sql: SELECT 1, metrics: {trades_total: {type: counter, help: T., value: v, labels: [symbol]}}}}\n"
    )
    text = "probes:\n" + "".join(
        probe.replace("db:", f"db{n}:") + (f"    depends_on: [db{n - 1}]\n" if n else "") for n in range(300)
    )
    Path("c.yaml").write_text(text)
    started = time.perf_counter()
    assert len(load(Path("c.yaml"), {}).probes) == 300
    assert time.perf_counter() - started < 1
