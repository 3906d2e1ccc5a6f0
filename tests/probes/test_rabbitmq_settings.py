"""What can be written under a probe of type rabbitmq, and what it comes to."""

import pytest
from pydantic import ValidationError

from exporter.config import load
from exporter.probes.rabbitmq.settings import RabbitmqSettings
from exporter.secret import Secret

URL = "amqp://app:word@mq.internal/trading"


def settings(**keys: object) -> RabbitmqSettings:
    return RabbitmqSettings.model_validate({"type": "rabbitmq", **keys})


@pytest.mark.parametrize(
    ("keys", "host", "port", "vhost"),
    [
        ({"url": URL}, "mq.internal", 5672, "trading"),
        ({"url": "amqp://mq"}, "mq", 5672, "/"),
        ({"url": "amqp://mq/"}, "mq", 5672, "/"),
        ({"url": "amqp://mq/%2F"}, "mq", 5672, "/"),
        ({"url": "amqp://mq/%2Fprod"}, "mq", 5672, "/prod"),
        ({"url": "amqps://mq/x?heartbeat=30"}, "mq", 5671, "x"),
        ({"url": "amqp://mq:1234/x", "tls": {}}, "mq", 1234, "x"),
        ({"url": "amqp://mq/x", "tls": {}}, "mq", 5671, "x"),
        ({"url": URL, "host": "other", "port": 99, "vhost": "a/b"}, "other", 99, "a/b"),
        ({"url": "amqp://"}, "localhost", 5672, "/"),
        ({"host": "mq"}, "mq", 5672, "/"),
        ({"host": "mq", "tls": {}}, "mq", 5671, "/"),
    ],
)
def test_where_the_broker_is(keys: dict[str, object], host: str, port: int, vhost: str) -> None:
    """URLs as RabbitMQ's specification writes them, with fields beside them winning, and taken literally."""
    server = settings(**keys).server
    assert (server.host, server.port, server.path) == (host, port, vhost)


def test_a_password_beside_the_url_is_literal() -> None:
    """A Kubernetes Secret may hold any character; in the URL it would be percent-encoded."""
    server = settings(url=URL, password="p%40ss@:/#").server
    assert (server.username, server.password) == ("app", Secret("p%40ss@:/#"))


@pytest.mark.parametrize(
    ("keys", "encrypted"),
    [
        ({"url": "amqp://mq"}, False),
        ({"url": "amqps://mq"}, True),
        ({"url": "amqp://mq", "tls": {"ca_file": "ca.pem"}}, True),
        ({"url": "amqp://mq?sslmode=require"}, True),
    ],
)
def test_tls_is_spoken_when_anything_asks_for_it(keys: dict[str, object], encrypted: bool) -> None:
    """Nobody writes `tls:` and wants a plain connection."""
    assert settings(**keys).encrypted is encrypted


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "needs a url or a host"),
        ({"url": "redis://mq"}, "it begins with amqp:// or amqps://"),
        ({"url": "amqp://a,b/"}, "names several hosts"),
        ({"host": "a,b"}, "names more than one host"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(keys: dict[str, object], told: str) -> None:
    """In a sentence for the user."""
    with pytest.raises(ValueError, match=told):
        _ = settings(**keys).server


@pytest.mark.parametrize("queues", [["a", "a"], [""], ["x" * 256], ["é" * 128]])
def test_a_list_of_queues_that_cannot_be_is_refused(queues: list[str]) -> None:
    """Two series with the same labels, or a name that the protocol cannot carry."""
    with pytest.raises(ValidationError):
        settings(url=URL, queues=queues)


def test_an_environment_alone_gives_the_probe() -> None:
    """With all defaults: no file, no line to write."""
    made = load(None, {"RABBITMQ_URL": "amqp://mq"}).probes["rabbitmq"]
    assert isinstance(made, RabbitmqSettings)
    assert (made.queues, made.connections(), made.server.path) == ((), 2, "/")


def test_its_retries_are_steady() -> None:
    """A broker that restarts takes seconds."""
    assert RabbitmqSettings.default_retry == "steady"
