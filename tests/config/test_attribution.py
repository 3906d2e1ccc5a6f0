"""Dependencies that nobody has to write."""

from pathlib import Path

import pytest

from exporter.config import load

BROKER = "rabbitmq: {type: rabbitmq, url: amqp://127.0.0.1/shop}"
CELERY = "celery: {type: celery, broker_url: amqp://127.0.0.1/shop}"


def dependencies(folder: Path, *probes: str) -> dict[str, tuple[str, ...]]:
    path = folder / "config.yaml"
    path.write_text("probes:\n" + "".join(f"  {probe}\n" for probe in probes))
    return {name: settings.depends_on for name, settings in load(path, {}).probes.items()}


def test_celery_depends_on_the_probe_of_its_broker(tmp_path: Path) -> None:
    """So a dead broker is one root cause, and its workers are not."""
    assert dependencies(tmp_path, CELERY, BROKER) == {"celery": ("rabbitmq",), "rabbitmq": ()}


def test_another_virtual_host_is_another_server(tmp_path: Path) -> None:
    """It can be refused or deleted while the other one lives."""
    assert dependencies(tmp_path, CELERY, BROKER.replace("/shop", "/other"))["celery"] == ()


def test_redis_is_one_server_whatever_the_database(tmp_path: Path) -> None:
    """All its databases live and die together."""
    cache = "cache: {type: redis, url: redis://127.0.0.1/0}"
    celery = "celery: {type: celery, broker_url: redis://127.0.0.1/1}"
    assert dependencies(tmp_path, cache, celery)["celery"] == ("cache",)


@pytest.mark.parametrize("written", ["rabbitmq", "db, rabbitmq"])
def test_what_is_written_stays_and_is_not_doubled(tmp_path: Path, written: str) -> None:
    """An operator may have said it already, and more."""
    celery = CELERY.replace("}", f", depends_on: [{written}]}}")
    db = "db: {type: postgres, url: postgresql://127.0.0.1/x}"
    assert dependencies(tmp_path, celery, BROKER, db)["celery"] == tuple(written.split(", "))


def test_what_is_written_the_other_way_round_is_believed(tmp_path: Path) -> None:
    """A circle would leave no root cause at all."""
    broker = BROKER.replace("}", ", depends_on: [celery]}")
    assert dependencies(tmp_path, CELERY, broker) == {"celery": (), "rabbitmq": ("celery",)}
