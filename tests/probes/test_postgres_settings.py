"""What can be written under a probe of type postgres, and what it comes to."""

import re

import pytest
from pydantic import ValidationError

from exporter.drivers.dns import Resolver
from exporter.probes.base import Runtime, Schedule
from exporter.probes.postgres.probe import PostgresProbe
from exporter.probes.postgres.settings import PostgresSettings
from exporter.secret import Secret

URL = "postgresql://app:word@db.internal/trading"
QUERY = {"sql": "SELECT 1 AS n", "metrics": {"n": {"type": "gauge", "help": "One.", "value": "n"}}}


def settings(**keys: object) -> PostgresSettings:
    return PostgresSettings.model_validate({"type": "postgres", **keys})


@pytest.mark.parametrize(
    ("keys", "host", "port", "database"),
    [
        ({"url": URL}, "db.internal", 5432, "trading"),
        ({"url": "postgresql+asyncpg://db:6432/x"}, "db", 6432, "x"),
        ({"url": URL, "host": "other", "port": 6432, "database": "y"}, "other", 6432, "y"),
        ({"url": "postgresql:///x?host=/run/postgresql&port=5433"}, "/run/postgresql", 5433, "x"),
        ({"url": "postgresql://%2Frun%2Fpostgresql/x"}, "/run/postgresql", 5432, "x"),
        ({"url": "postgresql:///x"}, "localhost", 5432, "x"),
        ({"host": "db"}, "db", 5432, ""),
    ],
)
def test_where_the_server_is(keys: dict[str, object], host: str, port: int, database: str) -> None:
    """URLs as libpq and SQLAlchemy write them, with fields beside them winning."""
    server = settings(**keys).server
    assert (server.host, server.port, server.path) == (host, port, database)


def test_a_password_beside_the_url_is_literal() -> None:
    """A Kubernetes Secret may hold any character; in the URL it would be percent-encoded."""
    server = settings(url=URL, password="p%40ss@:/#").server
    assert (server.username, server.password) == ("app", Secret("p%40ss@:/#"))


@pytest.mark.parametrize(
    ("keys", "sslmode"),
    [
        ({}, "prefer"),
        ({"tls": {}}, "verify-full"),
        ({"tls": {"insecure_skip_verify": True}}, "require"),
        ({"url": f"{URL}?sslmode=disable", "tls": {}}, "disable"),
        ({"url": f"{URL}?sslmode=verify-ca", "tls": {"ca_file": "ca.pem"}}, "verify-ca"),
        ({"url": f"{URL}?ssl=require"}, "require"),
    ],
)
def test_how_tls_is_decided(keys: dict[str, object], sslmode: str) -> None:
    """What the URL says; else what `tls:` is there for; else libpq's default."""
    assert settings(**{"url": URL, **keys}).sslmode == sslmode


def test_the_urls_certificate_files_are_known() -> None:
    """libpq's parameters, by the names they have under `tls:`; `system` is our default."""
    url = f"{URL}?sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem"
    assert settings(url=url).tls_material == {"ca_file": "/ca.pem", "cert_file": "/c.pem", "key_file": "/k.pem"}
    assert settings(url=f"{URL}?sslrootcert=system").tls_material == {}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({}, "needs a url or a host"),
        (
            {"url": f"{URL}?sslmode=on"},
            "unknown sslmode in the url; it is one of disable, allow, prefer, require, verify-ca, verify-full",
        ),
        (
            {"url": f"{URL}?sslmode=verify-full", "tls": {"insecure_skip_verify": True}},
            "sslmode=verify-full in the url contradicts tls.insecure_skip_verify",
        ),
        ({"url": "postgresql:///x?host=a,b"}, "names more than one host; write a probe for each"),
        ({"url": "postgresql:///x?host=a&port=0"}, "the port in the url's query is not a port"),
        ({"url": "mysql://db/x"}, "not a URL of this type; it begins with postgresql:// or postgres://"),
    ],
)
def test_what_makes_no_server(keys: dict[str, object], sentence: str) -> None:
    """Sentences for the configuration's problems; none repeats what could be a secret."""
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        _ = settings(**keys).server


def test_collect_is_a_list_or_a_mapping_to_schedules() -> None:
    """A costly collector may be read less often."""
    assert list(settings(url=URL).collect) == ["database", "activity", "locks", "replication", "settings"]
    assert list(settings(url=URL, collect=["locks", "settings"]).collect) == ["locks", "settings"]
    mapped = settings(url=URL, collect={"database": {"interval": "5m", "timeout": "30s"}, "locks": None, "activity": {}})
    assert mapped.schedule_of("database") == Schedule(300, 30, 900)
    assert mapped.schedule_of("locks") == mapped.schedule_of("activity") == Schedule(15, 5, 45)


def test_a_default_timeout_is_lowered_to_the_interval() -> None:
    """A run must be over before the next one is due."""
    own = settings(url=URL, interval="30s", timeout="20s", queries={"q": {**QUERY, "interval": "10s"}}, collect={"locks": {}})
    assert own.schedule_of("q") == Schedule(10, 10, 30)
    assert own.schedule_of("locks") == Schedule(30, 20, 90)


def test_a_collectors_own_age_wins_over_the_probes() -> None:
    """What is read once an hour may stay longer than what is read every quarter of a minute."""
    own = settings(url=URL, stale_after="2m", collect={"database": {"interval": "1h", "stale_after": "90m"}, "locks": {}})
    assert own.schedule_of("database") == Schedule(3600, 5, 5400)
    assert own.schedule_of("locks") == Schedule(15, 5, 120)


def test_the_probe_runs_its_collectors_on_these_schedules() -> None:
    """What is configured is what the engine is given."""
    own = settings(
        url=URL, collect={"database": {"interval": "5m", "stale_after": "6m"}}, queries={"q": {**QUERY, "timeout": "2s"}}
    )
    made = PostgresProbe("db", own, Runtime("test", Resolver())).collectors()
    assert [(one.name, Schedule(one.interval_seconds, one.timeout_seconds, one.stale_seconds or 0)) for one in made] == [
        ("database", Schedule(300, 5, 360)),
        ("q", Schedule(15, 2, 45)),
    ]


@pytest.mark.parametrize("collect", [["lock"], {"everything": {}}, "locks", [1], {"locks": {"every": "1s"}}, {"locks": 5}])
def test_collectors_that_are_none_are_refused(collect: object) -> None:
    """Told when the file is read, not at night."""
    with pytest.raises(ValidationError):
        settings(url=URL, collect=collect)


def test_everything_that_can_be_emitted_is_declared() -> None:
    """Name clashes, dashboards and documentation need every name before any connection."""
    own = settings(url=URL, collect=["replication"], queries={"q": QUERY})
    assert [metric.name for metric in own.declared()] == [
        "pg_up",
        "pg_replication_lag_seconds",
        "pg_replication_is_replica",
        "pg_replication_last_replay_seconds",
        "n",
    ]
    assert own.connections() == 3
