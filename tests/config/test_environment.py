"""No file at all: the variables that an application has anyway."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from exporter.config import Configuration, load
from exporter.config.environment import clamped
from exporter.errors import ConfigError, Problem
from exporter.model import Kind, Metric
from exporter.probes import TYPES, ProbeType
from exporter.probes.address import Server, parse_server
from exporter.probes.base import ProbeSettings
from exporter.probes.fields import SecretText
from exporter.probes.postgres.settings import PostgresSettings

URL = "postgresql+asyncpg://user:hunter2@127.0.0.1:6432/trading"


class BrokerSettings(ProbeSettings):
    """Settings as those of a type that comes later: an address and nothing else."""

    up: ClassVar[Metric] = Metric("broker_up", Kind.GAUGE, "Up.")
    type: Literal["redis", "rabbitmq"]
    url: Annotated[SecretText, Field(description="Address.")]

    @property
    def server(self) -> Server:
        return parse_server(self.url, ("redis", "amqp"))


class CelerySettings(ProbeSettings):
    """Settings as those of celery, whose address has another key."""

    up: ClassVar[Metric] = Metric("celery_up", Kind.GAUGE, "Up.")
    type: Literal["celery"]
    broker_url: Annotated[SecretText, Field(description="Address.")]

    @property
    def server(self) -> Server:
        return parse_server(self.broker_url, ("redis", "amqp"))


@pytest.fixture
def later_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of probe types with the rows that later versions add."""
    module = ModuleType("later_types")
    module.__dict__.update(BrokerSettings=BrokerSettings, CelerySettings=CelerySettings)
    monkeypatch.setitem(sys.modules, "later_types", module)
    for name, settings in (("redis", "BrokerSettings"), ("rabbitmq", "BrokerSettings"), ("celery", "CelerySettings")):
        monkeypatch.setitem(TYPES, name, ProbeType(f"later_types:{settings}", f"later_types:{settings}"))


@pytest.fixture
def earlier_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of probe types as it was before these were built."""
    for name in ("redis", "rabbitmq", "celery"):
        monkeypatch.delitem(TYPES, name, raising=False)


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


@pytest.mark.usefixtures("earlier_types")
def test_nothing_set_says_what_to_set() -> None:
    """The first thing that anybody sees who just runs it."""
    assert problems() == [
        "environment: nothing to probe; set DATABASE_URL, or write a config.yaml with `probes:` and pass it with -c"
    ]
    assert problems(DATABASE_URL="") == problems()


@pytest.mark.usefixtures("earlier_types")
def test_variable_of_a_type_that_is_not_there_yet_is_a_warning() -> None:
    """The application's environment has it anyway; the database is probed all the same."""
    configuration = load(None, {"DATABASE_URL": URL, "REDIS_URL": "redis://h", "CELERY_BROKER_URL": "redis://h"})
    assert list(configuration.probes) == ["db"]
    assert configuration.warnings == (
        Problem("REDIS_URL", "", "type redis is not built in yet"),
        Problem("CELERY_BROKER_URL", "", "type celery is not built in yet"),
    )


@pytest.mark.usefixtures("earlier_types")
def test_only_variables_of_later_types_is_an_error() -> None:
    """A process that probes nothing would look alive and say nothing."""
    assert problems(REDIS_URL="redis://h")[0] == "REDIS_URL: type redis is not built in yet"


@pytest.mark.usefixtures("later_types")
def test_row_in_the_table_of_types_is_all_that_a_variable_needs() -> None:
    """The types that come later bring no change here."""
    urls = {"REDIS_URL": "redis://127.0.0.1", "RABBITMQ_URL": "amqp://127.0.0.1", "CELERY_BROKER_URL": "redis://127.0.0.1/1"}
    configuration = load(None, urls)
    assert {name: probe.type for name, probe in configuration.probes.items()} == {
        "redis": "redis",
        "rabbitmq": "rabbitmq",
        "celery": "celery",
    }
    assert configuration.warnings == ()
    assert configuration.probes["celery"].critical


@pytest.mark.usefixtures("later_types")
@pytest.mark.parametrize(
    ("environ", "parent"),
    [
        ({"REDIS_URL": "redis://127.0.0.1", "RABBITMQ_URL": "amqp://127.0.0.1"}, "rabbitmq"),
        ({"REDIS_URL": "redis://127.0.0.1"}, "redis"),
    ],
)
def test_celery_is_looked_for_on_the_broker_that_is_there(environ: dict[str, str], parent: str) -> None:
    """RabbitMQ first; since it may not be used at all, the probe is not critical."""
    celery = load(None, environ).probes["celery"]
    assert (celery.depends_on, celery.critical) == ((parent,), False)


@pytest.mark.usefixtures("later_types")
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
