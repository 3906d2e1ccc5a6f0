"""What can be written under a probe of type celery, and where its broker is."""

import pytest
from pydantic import ValidationError

from exporter.probes import TYPES
from exporter.probes.base import ProbeSettings
from exporter.probes.celery.settings import CelerySettings


def settings(url: str, **keys: object) -> CelerySettings:
    return CelerySettings.model_validate({"type": "celery", "broker_url": url, **keys})


def other(kind: str, **keys: object) -> ProbeSettings:
    return TYPES[kind].load_settings().model_validate({"type": kind, **keys})


@pytest.mark.parametrize(
    ("url", "broker", "place", "path"),
    [
        ("amqp://guest:guest@mq", "rabbitmq", "mq:5672", "/"),
        ("amqp://mq/", "rabbitmq", "mq:5672", "/"),
        ("amqp://mq:5673//", "rabbitmq", "mq:5673", "/"),
        ("amqp://mq/shop", "rabbitmq", "mq:5672", "shop"),
        ("pyamqp://mq/%2Fshop", "rabbitmq", "mq:5672", "/shop"),
        ("amqps://mq/shop", "rabbitmq", "mq:5671", "shop"),
        ("redis://cache", "redis", "cache:6379", "0"),
        ("redis://:word@cache:6380/2", "redis", "cache:6380", "2"),
        ("redis://cache?virtual_host=/3", "redis", "cache:6379", "3"),
        ("rediss://cache/1?ssl_cert_reqs=CERT_REQUIRED", "redis", "cache:6379", "1"),
        ("redis://", "redis", "localhost:6379", "0"),
        ("redis+socket:///run/redis.sock", "redis", "/run/redis.sock", "0"),
        ("redis+socket://:word@/run/redis.sock?virtual_host=2", "redis", "/run/redis.sock", "2"),
        ("unix:///run/redis.sock?db=4", "redis", "/run/redis.sock", "4"),
    ],
)
def test_the_broker_url_is_read_as_celery_reads_it(url: str, broker: str, place: str, path: str) -> None:
    """It is copied from the application's own settings."""
    found = settings(url)
    assert (found.broker, found.server.place, found.server.path) == (broker, place, path)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqs://key:secret@", "not a URL of this type"),
        ("amqp://a;amqp://b", "names several brokers"),
        ("redis://cache/nine", "the database is not a number"),
        ("redis://cache:99999", "port 99999 is above 65535"),
    ],
)
def test_what_cannot_be_used_is_told_without_repeating_it(url: str, told: str) -> None:
    """With what to write instead."""
    with pytest.raises(ValueError, match=told) as caught:
        _ = settings(url).server
    assert "secret" not in str(caught.value)


def test_password_beside_the_url_wins_and_is_literal() -> None:
    """One from a Kubernetes Secret may hold `@:/#`."""
    server = settings("amqp://shop:old@mq/", password="p@:/#", username="other").server
    assert server.username == "other"
    assert server.password is not None
    assert server.password.reveal() == "p@:/#"


@pytest.mark.parametrize(
    ("url", "keys", "encrypted", "material"),
    [
        ("rediss://c?ssl_cert_reqs=none", {}, True, {"insecure_skip_verify": True}),
        ("rediss://c?ssl_ca_certs=/ca.pem&ssl_cert_reqs=CERT_REQUIRED", {}, True, {"ca_file": "/ca.pem"}),
        ("amqps://mq", {}, True, {}),
        ("amqp://mq", {"tls": {}}, True, {}),
        ("amqp://mq", {}, False, {}),
        ("redis+socket:///s", {"tls": {}}, False, {}),
    ],
)
def test_tls_is_what_the_url_says(url: str, keys: dict[str, object], encrypted: bool, material: dict[str, object]) -> None:
    """Celery wants it in the query of rediss://, so that is where it is."""
    found = settings(url, **keys)
    assert found.encrypted is encrypted
    assert found.tls_material == material


@pytest.mark.parametrize(
    ("url", "kind", "keys", "rests"),
    [
        ("amqp://mq/shop", "rabbitmq", {"url": "amqp://mq/shop"}, True),
        ("amqp://mq", "rabbitmq", {"host": "MQ"}, True),
        ("amqp://localhost", "rabbitmq", {"url": "amqp://127.0.0.1/"}, True),
        ("amqp://mq/shop", "rabbitmq", {"url": "amqp://mq/"}, False),
        ("amqp://mq:5673", "rabbitmq", {"url": "amqp://mq"}, False),
        ("redis://c/1", "redis", {"url": "redis://c/0"}, True),
        ("redis://c/1", "redis", {"url": "redis://d/1"}, False),
        ("redis+socket:///run/a", "redis", {"url": "unix:///run/a"}, True),
        ("redis+socket:///run/a", "redis", {"url": "unix:///run/b"}, False),
        ("redis://c", "rabbitmq", {"url": "amqp://c"}, False),
    ],
)
def test_it_rests_on_the_probe_that_looks_at_its_broker(url: str, kind: str, keys: dict[str, object], rests: bool) -> None:
    """RabbitMQ by host, port and virtual host; Redis by host and port, whichever database."""
    assert settings(url).rests_on(other(kind, **keys)) is rests


def test_defaults_are_those_of_an_ordinary_application() -> None:
    """One queue, one worker, and nothing switched on."""
    found = settings("amqp://mq")
    assert (found.queues, found.workers, found.min_workers, found.enable_task_events) == (("celery",), (), 1, False)
    assert found.default_retry == "none"


def test_unknown_keys_are_refused() -> None:
    """As everywhere."""
    with pytest.raises(ValidationError):
        settings("amqp://mq", worker=["w1@h"])
