"""What can be written under a probe of type redis, and what it comes to."""

import pytest
from pydantic import ValidationError

from exporter.config import load
from exporter.probes.base import Schedule
from exporter.probes.redis.settings import RedisSettings
from exporter.secret import Secret

URL = "redis://app:word@cache.internal/2"


def settings(**keys: object) -> RedisSettings:
    return RedisSettings.model_validate({"type": "redis", **keys})


@pytest.mark.parametrize(
    ("keys", "host", "port", "db"),
    [
        ({"url": URL}, "cache.internal", 6379, 2),
        ({"url": "redis://cache:6380"}, "cache", 6380, 0),
        ({"url": "redis://cache/"}, "cache", 6379, 0),
        ({"url": "redis://cache/1?db=4"}, "cache", 6379, 4),
        ({"url": "redis:///5"}, "localhost", 6379, 5),
        ({"url": "rediss://[::1]:7000/1/"}, "::1", 7000, 1),
        ({"url": "unix:///run/redis/socket?db=3"}, "/run/redis/socket", 6379, 3),
        ({"url": "unix://:word@/run/redis.sock"}, "/run/redis.sock", 6379, 0),
        ({"url": URL, "host": "other", "port": 6380, "db": 0}, "other", 6380, 0),
        ({"host": "/run/redis.sock", "db": 1}, "/run/redis.sock", 6379, 1),
        ({"host": "cache"}, "cache", 6379, 0),
    ],
)
def test_where_the_server_is(keys: dict[str, object], host: str, port: int, db: int) -> None:
    """URLs as redis-py writes them, with fields beside them winning."""
    read = settings(**keys)
    assert (read.server.host, read.server.port, read.database) == (host, port, db)


def test_a_password_beside_the_url_is_literal() -> None:
    """A Kubernetes Secret may hold any character; in the URL it would be percent-encoded."""
    server = settings(url=URL, password="p%40ss@:/#").server
    assert (server.username, server.password) == ("app", Secret("p%40ss@:/#"))
    assert settings(url="redis://:p%40ss@cache").server.password == Secret("p@ss")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "needs a url or a host"),
        ({"url": "amqp://h"}, "not a URL of this type; it begins with redis:// or rediss:// or unix://"),
        ({"url": "redis://h/cache"}, "the database in the url is not a number"),
        ({"url": "redis://h?db=-1"}, "the database in the url is not a number"),
        ({"url": "redis://h/99999999999"}, "the database in the url is not a number"),
        ({"url": "redis://h?protocol=4"}, "the protocol in the url is neither 2 nor 3"),
        ({"url": "unix://host/run/redis.sock"}, "not the URL of a Unix socket; write unix:///path/of/the/socket?db=0"),
        ({"url": "unix://"}, "not the URL of a Unix socket; write unix:///path/of/the/socket?db=0"),
        ({"url": "redis://h:0"}, "port 0 is below 1"),
    ],
)
def test_an_address_that_is_none_is_told(keys: dict[str, object], told: str) -> None:
    """In a sentence, before anything is connected."""
    with pytest.raises(ValueError, match=r".") as caught:
        _ = settings(**keys).server
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("keys", "speaks"),
    [
        ({"url": URL}, False),
        ({"url": "rediss://cache"}, True),
        ({"url": URL, "tls": {}}, True),
        ({"host": "cache", "tls": {"insecure_skip_verify": True}}, True),
        ({"url": "unix:///run/redis.sock", "tls": {}}, False),
    ],
)
def test_how_tls_is_decided(keys: dict[str, object], speaks: bool) -> None:
    """By the scheme, or by `tls:` being there; a Unix socket needs none."""
    assert settings(**keys).speaks_tls is speaks


def test_what_the_url_says_of_tls_is_known() -> None:
    """redis-py's parameters, and Celery's CERT_NONE, by the names they have under `tls:`."""
    url = "rediss://h?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=ca.pem&ssl_certfile=c.pem&ssl_keyfile=k.pem"
    assert settings(url=url).tls_material == {
        "ca_file": "ca.pem",
        "cert_file": "c.pem",
        "key_file": "k.pem",
        "insecure_skip_verify": True,
    }
    assert settings(url="rediss://h?ssl_cert_reqs=required").tls_material == {}


def test_the_protocol_is_resp3_unless_the_url_says_otherwise() -> None:
    """As redis-py spells it; a proxy may know no HELLO."""
    assert (settings(url=URL).protocol, settings(url=f"{URL}?protocol=2").protocol) == (3, 2)


def test_what_holds_by_default() -> None:
    """`info` on the probe's own schedule, three connections, quick retries."""
    read = settings(url=URL)
    assert read.schedule_of("info") == Schedule(15, 5, 45)
    assert (read.connections(), read.default_retry, list(read.collect)) == (3, "quick", ["info"])
    assert settings(url=URL, collect={"info": {"interval": "1m", "timeout": "20s"}}).schedule_of("info") == Schedule(60, 20, 180)
    assert settings(url=URL, interval="2s", collect=["info"]).schedule_of("info") == Schedule(2, 2, 6)


def test_without_collectors_only_redis_up_is_declared() -> None:
    """Somebody who wants a health check alone gets no series that never come."""
    assert [metric.name for metric in settings(url=URL, collect=[]).declared()] == ["redis_up"]


@pytest.mark.parametrize("collect", ["info", ["keys"], {"info": {"every": "1s"}}])
def test_collectors_that_are_none_are_refused(collect: object) -> None:
    """Told when the file is read, not at night."""
    with pytest.raises(ValidationError):
        settings(url=URL, collect=collect)


def test_redis_url_makes_the_probe_redis() -> None:
    """The application's environment has it anyway."""
    configuration = load(None, {"REDIS_URL": "redis://:hunter2@127.0.0.1:6380/1"})
    assert next(iter(configuration.probes)) == "redis"
    read = configuration.probes["redis"]
    assert isinstance(read, RedisSettings)
    assert (read.server.place, read.database, configuration.warnings) == ("127.0.0.1:6380", 1, ())
    assert {secret.reveal() for secret in configuration.secrets} >= {"hunter2"}
