"""No file at all: the variables that an application has anyway."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Configuration, load
from exporter.config.environment import clamped
from exporter.errors import ConfigError
from exporter.probes.celery.settings import CelerySettings
from exporter.probes.postgres.settings import PostgresSettings

URL = "postgresql+asyncpg://user:hunter2@127.0.0.1:6432/trading"


def problems(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    return str(caught.value).splitlines()


def db(configuration: Configuration) -> PostgresSettings:
    settings = configuration.probes["db"]
    assert isinstance(settings, PostgresSettings)
    return settings


def test_database_url_makes_the_probe_db() -> None:
    """The shortest way to a running exporter; SQLAlchemy's scheme is what applications have."""
    configuration = load(None, {"DATABASE_URL": URL})
    assert configuration.source == "environment"
    assert list(configuration.probes) == ["db"]
    assert db(configuration).server.place == "127.0.0.1:6432"
    assert {secret.reveal() for secret in configuration.secrets} == {URL, "hunter2"}


def test_file_twin_serves_as_well(tmp_path: Path) -> None:
    """Docker secrets are files."""
    (tmp_path / "url").write_text(f"{URL}\n")
    configuration = load(None, {"DATABASE_URL_FILE": str(tmp_path / "url")})
    assert db(configuration).server.path == "trading"


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"DATABASE_URL": "postgresql://h:99999/x"}, ["DATABASE_URL: port 99999 is above 65535"]),
        ({"DATABASE_URL": "mysql://h/x"}, ["DATABASE_URL: not a URL of this type; it begins with postgresql:// or postgres://"]),
        (
            {"DATABASE_URL": URL, "DATABASE_URL_FILE": "/x"},
            ["DATABASE_URL: DATABASE_URL and DATABASE_URL_FILE are both set; keep one"],
        ),
        ({"DATABASE_URL_FILE": "/nowhere/x"}, ["DATABASE_URL: cannot read /nowhere/x: no such file or directory"]),
        ({"DATABASE_URL": URL, "DB_POOL_SIZE": "many"}, ["DB_POOL_SIZE: not a whole number"]),
        ({"DATABASE_URL": URL, "EXPORTER_LISTEN": ":99999"}, ["EXPORTER_LISTEN: port 99999 is above 65535"]),
        (
            {"DATABASE_URL": "postgresql://h:0/x", "DB_MAX_OVERFLOW": "x", "EXPORTER_LISTEN": "x"},
            [
                "EXPORTER_LISTEN: not an address to listen on; write HOST:PORT, such as :10190, 127.0.0.1:10190 or [::1]:10190",
                "DB_MAX_OVERFLOW: not a whole number",
                "DATABASE_URL: port 0 is below 1",
            ],
        ),
    ],
)
def test_variable_stands_for_the_place(environ: dict[str, str], told: list[str]) -> None:
    """There is no file and no line, but there is a name to look for."""
    assert problems(**environ) == told


def test_nothing_set_says_what_to_set() -> None:
    """The first thing that anybody sees who just runs it."""
    variables = "DATABASE_URL, REDIS_URL, RABBITMQ_URL, CELERY_BROKER_URL"
    assert problems() == [
        f"environment: nothing to probe; set {variables}, or write a config.yaml with `probes:` and pass it with -c"
    ]
    assert problems(DATABASE_URL="") == problems()


def test_each_variable_makes_its_probe() -> None:
    """With all defaults; a broker that is named is critical."""
    urls = {"REDIS_URL": "redis://127.0.0.1", "RABBITMQ_URL": "amqp://127.0.0.1", "CELERY_BROKER_URL": "redis://127.0.0.1/1"}
    configuration = load(None, urls)
    assert {name: probe.type for name, probe in configuration.probes.items()} == {
        "redis": "redis",
        "rabbitmq": "rabbitmq",
        "celery": "celery",
    }
    assert configuration.warnings == ()
    assert configuration.probes["celery"].critical


@pytest.mark.parametrize(
    ("environ", "parent"),
    [
        ({"REDIS_URL": "redis://127.0.0.1", "RABBITMQ_URL": "amqp://127.0.0.1"}, "rabbitmq"),
        ({"REDIS_URL": "redis://127.0.0.1"}, "redis"),
    ],
)
def test_celery_is_looked_for_on_the_broker_that_is_there(environ: dict[str, str], parent: str) -> None:
    """RabbitMQ first; since it may not be used at all, the probe is not critical, and says so when no worker is seen."""
    celery = load(None, environ).probes["celery"]
    assert isinstance(celery, CelerySettings)
    assert (celery.depends_on, celery.critical, celery.inferred, celery.broker) == ((parent,), False, True, parent)


@pytest.mark.parametrize("key", ["inferred", "_inferred"])
def test_nobody_can_write_that_a_probe_is_a_guess(key: str, tmp_path: Path) -> None:
    """Only who guessed knows; a file names what it means, so the key is as unknown there as any other."""
    path = tmp_path / "config.yaml"
    path.write_text(f"probes:\n  celery: {{type: celery, broker_url: 'amqp://127.0.0.1/', {key}: true}}\n")
    with pytest.raises(ConfigError, match=rf"probes\.celery\.{key}: unknown key"):
        load(path, {})
    path.write_text("probes:\n  celery: {type: celery, broker_url: 'amqp://127.0.0.1/'}\n")
    assert not load(path, {}).probes["celery"].inferred


def test_problem_of_a_shared_variable_is_told_once() -> None:
    """The inferred Celery has the same URL."""
    assert problems(RABBITMQ_URL="amqp://h:99999") == ["RABBITMQ_URL: port 99999 is above 65535"]


@pytest.mark.parametrize(
    ("environ", "pool"),
    [
        ({}, (3, 0)),
        ({"DB_POOL_SIZE": "4"}, (4, 0)),
        ({"DB_POOL_SIZE": "20", "DB_MAX_OVERFLOW": "10"}, (5, 0)),
        ({"DB_POOL_SIZE": "1"}, (2, 0)),
        ({"DB_POOL_SIZE": "2", "DB_MAX_OVERFLOW": "2"}, (2, 2)),
        ({"DB_MAX_OVERFLOW": "10"}, (3, 2)),
        ({"DB_POOL_SIZE": "0"}, (5, 0)),
        ({"DB_POOL_SIZE": "2", "DB_MAX_OVERFLOW": "-1"}, (2, 3)),
        ({"DB_POOL_SIZE": "", "DB_MAX_OVERFLOW": ""}, (3, 0)),
    ],
)
def test_pool_of_the_application_is_honoured_within_bounds(environ: dict[str, str], pool: tuple[int, int]) -> None:
    """Its variables are shared with us, but twenty connections are for the application alone."""
    settings = db(load(None, {"DATABASE_URL": URL, **environ})).pool
    assert (settings.size, settings.max_overflow) == pool


@given(st.integers(-10, 1000), st.integers(-10, 1000))
def test_pool_stays_between_two_and_five(size: int, overflow: int) -> None:
    """Whatever an application sets, we are never a burden, and the check always has a connection beside the collectors'."""
    kept, more = clamped(size, overflow)
    assert kept >= 2
    assert more >= 0
    assert kept + more <= 5


def test_warning_of_a_plain_connection_names_the_variable() -> None:
    """As everything that is said of the environment."""
    warnings = load(None, {"DATABASE_URL": "postgresql://db.internal/x"}).warnings
    assert [(warning.place, warning.path) for warning in warnings] == [("DATABASE_URL", "")]


def test_notice_names_each_variable_whose_login_is_used(tmp_path: Path) -> None:
    """The application's login can do more than look: whoever starts us so is told once; with a file nobody needs to be told."""
    urls = {"DATABASE_URL": URL, "REDIS_URL": "redis://127.0.0.1"}
    assert load(None, urls).notice == (
        "no configuration file: the login is the application's own (DATABASE_URL, REDIS_URL);"
        " the README, Rights, has one that may only look"
    )
    (tmp_path / "config.yaml").write_text("probes:\n  db: {type: postgres, url: 'postgresql://127.0.0.1/x'}\n")
    assert load(tmp_path / "config.yaml", urls).notice == ""
