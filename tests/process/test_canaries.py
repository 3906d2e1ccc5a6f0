"""No secret leaves: a canary in every place where one can stand, under every fault, searched for in all that leaves the process.

Each place has a canary of its own, so a leak names its place. It is searched for as it is, which also finds it
percent-encoded, escaped for JSON or HTML or cut off, and in base64.
"""

import asyncio
import html
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from exporter.demo.servers import Postgres, RabbitMQ, Redis
from tests.conftest import Count
from tests.faults import (
    TEN_ZEROS,
    black_hole,
    echoing,
    garbage,
    hanging_names,
    peer,
    resetting,
    saying,
    saying_over_tls,
    silent,
)
from tests.running import Running
from tests.servers import closed_port, eventually_now
from tests.telltale import telltale

SOURCE = Path(__file__).parent.parent.parent
SONG = "c4n4ryc4n4ry"
TOKEN = f"{SONG}-web-token"


def canary(place: str) -> str:
    """A password as people generate them."""
    return f'{SONG}-{place}-@:/?#"\\é %'


def probes(place: str) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Place of the secret, type and keys of every way to hold one, towards `place` (host:port)."""
    host, _, port = place.rpartition(":")

    def user(of: str) -> str:
        return f"user:{quote(canary(of), safe='')}"

    yield "pg-url", "postgres", {"url": f"postgresql://{user('pg-url')}@{place}/x"}
    yield "pg-query", "postgres", {"url": f"postgresql://user@{place}/x?password={quote(canary('pg-query'), safe='')}"}
    yield "pg-field", "postgres", {"host": host, "port": int(port), "username": "u", "password": canary("pg-field")}
    yield "redis-url", "redis", {"url": f"redis://{user('redis-url')}@{place}/0"}
    yield "redis-field", "redis", {"url": f"redis://{place}/0", "password": canary("redis-field")}
    yield "amqp-url", "rabbitmq", {"url": f"amqp://{user('amqp-url')}@{place}/x"}
    yield "amqp-field", "rabbitmq", {"url": f"amqp://user@{place}/x", "password": canary("amqp-field")}
    yield "celery-amqp", "celery", {"broker_url": f"amqp://{user('celery-amqp')}@{place}/x"}
    yield "celery-redis", "celery", {"broker_url": f"redis://{user('celery-redis')}@{place}/0"}
    yield "celery-field", "celery", {"broker_url": f"redis://{place}/0", "password": canary("celery-field")}
    yield "http-url", "http", {"url": f"http://{user('http-url')}@{place}/"}
    yield "http-query", "http", {"url": f"http://{place}/?key={quote(canary('http-query'), safe='')}&b={SONG}-http-query"}
    yield "http-basic", "http", {"url": f"http://{place}/", "basic_auth": {"username": "u", "password": canary("http-basic")}}
    yield "http-bearer", "http", {"url": f"http://{place}/", "bearer_token": f"{SONG}-http-bearer"}
    yield "http-header", "http", {"url": f"http://{place}/", "headers": {"X-Api-Key": f"{SONG}-http-header"}}
    yield "http-cookie", "http", {"url": f"http://{place}/", "headers": {"Cookie": f"session={SONG}-http-cookie"}}
    yield "http-body", "http", {"url": f"http://{place}/", "method": "POST", "body": json.dumps({"a": canary("http-body")})}


def over_tls(keys: dict[str, object]) -> dict[str, object]:
    """The same by TLS: schemes, `sslmode`, or a section of its own."""
    secured = {"postgresql://": "postgresql://", "redis://": "rediss://", "amqp://": "amqps://", "http://": "https://"}
    for key in ("url", "broker_url"):
        scheme = str(keys.get(key, "")).partition("://")[0] + "://"
        if scheme in secured:
            keys[key] = str(keys[key]).replace(scheme, secured[scheme], 1)
    return {**keys, "tls": {}}


@asynccontextmanager
async def redirecting(port: int) -> AsyncIterator[int]:
    """Sends whoever asks on to a closed port of another host, with credentials of its own in the address."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        elsewhere = f"http://user:{SONG}-redirect@127.0.0.2:{port}/{'x' * 50}?key={SONG}-redirect"
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async with peer(behave) as redirect:
        yield redirect


@asynccontextmanager
async def faults(postgres: Postgres, redis: Redis, rabbitmq: RabbitMQ) -> AsyncIterator[dict[str, str]]:
    """Where each fault is found."""
    authority = trustme.CA()
    async with AsyncExitStack() as stack:
        closed = stack.enter_context(closed_port())
        peers = {
            "silent": silent(),
            "hole": black_hole(),
            "reset": resetting(),
            "zeros": saying(TEN_ZEROS),
            "garbage": saying(garbage(3)),
            "echo": echoing(),
            "telltale": telltale(),
            "redirect": redirecting(closed),
            "tls-starttls": saying_over_tls(TEN_ZEROS, authority),
            "tls-untrusted": saying_over_tls(TEN_ZEROS, authority, postgres=False),
            "tls-none": saying(garbage(3)),
        }
        places = {name: f"127.0.0.1:{await stack.enter_async_context(found)}" for name, found in peers.items()}
        yield {
            **places,
            "refused": f"127.0.0.1:{closed}",
            "nowhere": "nowhere.invalid:1",
            "hanging": "hang.internal:1",
            "real-postgres": f"127.0.0.1:{postgres.port}",
            "real-redis": f"127.0.0.1:{redis.port}",
            "real-rabbitmq": f"127.0.0.1:{rabbitmq.port}",
        }


REAL = {
    "real-postgres": ("pg-url", "pg-query", "pg-field"),
    "real-redis": ("redis-url", "redis-field", "celery-redis", "celery-field"),
    "real-rabbitmq": ("amqp-url", "amqp-field", "celery-amqp"),
}
"""Which places of a secret a real server is shown; every other fault is shown all."""
HANGING = ("silent", "hole", "hanging", "tls-starttls")
"""Faults that end at the deadline alone; the others have an answer, and time for it on any machine."""


def configuration(folder: Path, places: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """A file with every probe towards every fault, and the environment with what it takes from there."""
    all_probes: dict[str, object] = {}
    for fault, place in places.items():
        for held, kind, keys in probes(place):
            if held not in REAL.get(fault, (held,)):
                continue
            written = over_tls(keys) if fault.startswith("tls") else keys
            timing = {"timeout": "1s"} if fault in HANGING else {}
            all_probes[f"{held}.{fault}"] = {"type": kind, **timing, **{key: escaped(value) for key, value in written.items()}}
    for name, text in (("token", TOKEN), ("url", f"redis://u:{SONG}-url-file@{places['echo']}/0"), ("pass", f"{SONG}-pass-file")):
        (folder / name).write_text(f"{text}\n")
    all_probes["file.echo"] = {
        "type": "postgres",
        "url": f"postgresql://u@{places['echo']}/x",
        "password": f"${{file:{folder}/pass}}",
    }
    all_probes["x-file.echo"] = {"type": "redis", "url": "${CACHE_URL}"}
    all_probes["variable.echo"] = {"type": "rabbitmq", "url": f"amqp://u:${{BROKER_PASSWORD}}@{places['echo']}/"}
    defaults = {"interval": "60s", "timeout": "30s", "failure_threshold": 1, "retry": "none"}
    whole = {"log": {"level": "debug"}, "defaults": defaults, "probes": all_probes}
    environment = {
        "EXPORTER_TOKEN_FILE": str(folder / "token"),
        "CACHE_URL_FILE": str(folder / "url"),
        "BROKER_PASSWORD": f"{SONG}-variable",
    }
    return json.dumps(whole), environment


def escaped(value: object) -> object:
    """As it must stand in the file: `$$` is `$`."""
    return value.replace("$", "$$") if isinstance(value, str) else value


def heard(text: str) -> set[str]:
    """The places whose canary can be found in the text, `in base64` for one that was encoded."""
    found = {place.lower() for place in re.findall(rf"{SONG}-?([a-z-]*)", text, re.IGNORECASE)}
    return found | ({"in base64"} if any(piece in text for piece in BASE64) else set())


# of a text somewhere within what is encoded: the characters that depend on it alone, at each of the three offsets
BASE64 = tuple(b64encode(b"\0" * offset + SONG.encode()).decode()[4:-4] for offset in range(3))
PATHS = (
    *("/", "/health", "/health.txt", "/health?format=html", "/metrics", "/api/v1/health", "/api/v1/probes", "/api/v1/circuits"),
    *("/livez", "/readyz", "/startupz", "/nowhere", "/health/pg-url.echo", "/health/http-basic.telltale?format=html"),
)
REASONS = {"timeout", "refused", "reset", "dns", "tls", "auth", "protocol", "http_status"}


def everything_said(exporter: Running) -> dict[str, str]:
    """What everybody can read of an exporter once each probe has failed, and what it has written at its end."""
    with exporter:
        found = eventually_now(lambda: all_failed(exporter), 45)
        assert {probe["reason"] for probe in found.values()} >= REASONS
        left = {path: exporter.get(path)[1] for path in PATHS}
        left |= {name: exporter.get(f"/api/v1/probes/{name}/history")[1] for name in found}
        left["openmetrics"] = exporter.get("/metrics", Accept="application/openmetrics-text")[1]
        left["reload"] = reload_badly(exporter)
        left["page after it"] = exporter.get("/")[1]
        assert exporter.terminate(5) == 0
    return {**left, "its terminal": exporter.said}


def said_as_json(exporter: Running) -> str:
    """What it has written to its terminal once each probe has failed and it has ended; every line of its log is an object."""
    with exporter:
        eventually_now(lambda: all_failed(exporter), 45)
        assert exporter.terminate(5) == 0
    lines = [json.loads(line) for line in exporter.log.read_text().splitlines()]
    assert {line["probe"] for line in lines if line.get("status") == "unhealthy"} >= {"pg-url.refused", "http-body.telltale"}
    return exporter.said


def all_failed(exporter: Running) -> dict[str, dict[str, object]]:
    """Every probe as /health tells it; none while one has had no verdict yet."""
    found: dict[str, dict[str, object]] = exporter.health()["probes"]
    return found if {probe["status"] for probe in found.values()} == {"unhealthy"} else {}


def reload_badly(exporter: Running) -> str:
    """What the answer to a POST says when the new file has a mistake in each secret's place."""
    path = exporter.folder / "config.yaml"
    path.write_text(path.read_text().replace('"password": "', '"pasword": "').replace("postgresql://", "postgrs://"))
    request = urllib.request.Request(f"{exporter.url}/-/reload", method="POST", headers={"Authorization": f"Bearer {TOKEN}"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code == HTTPStatus.CONFLICT
    return refused.value.read().decode()


def commands_say(folder: Path, environment: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """What the commands say on both of their terminals, of each fault in each form."""
    asked = {"check": ["check"], "probe": ["probe", *names[::2]], "probe as JSON": ["probe", *names[1::2], "--format", "json"]}
    return {name: command(folder, environment, *arguments) for name, arguments in asked.items()}


def command(folder: Path, environment: Mapping[str, str], *arguments: str) -> str:
    line = [sys.executable, "-m", "exporter", *arguments, "-c", str(folder / "config.yaml"), "--log-level", "debug"]
    result = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=50)
    assert result.returncode in (0, 1), result.stderr[-2000:]
    return result.stdout + result.stderr


async def test_no_canary_is_heard(
    tmp_path: Path, postgres_server: Postgres, redis_server: Redis, rabbitmq_server: RabbitMQ, count: Count
) -> None:
    """Some three hundred probes with a secret each, as text and as JSON, by the schedule and by hand."""
    async with faults(postgres_server, redis_server, rabbitmq_server) as places:
        written, taken = configuration(tmp_path, places)
        environment = {**taken, **hanging_names(tmp_path / "site", "hang.internal")}
        for form in ("text", "json", "commands"):
            (tmp_path / form).mkdir()
        (tmp_path / "commands" / "config.yaml").write_text(written)
        paths = f"{environment['PYTHONPATH']}:{SOURCE}"
        by_hand = asyncio.to_thread(
            commands_say, tmp_path / "commands", {**environment, "PYTHONPATH": paths}, list(json.loads(written)["probes"])
        )
        text, as_json = (Running(tmp_path / form, written, environment, log_format=form) for form in ("text", "json"))
        serving = asyncio.to_thread(everything_said, text), asyncio.to_thread(said_as_json, as_json)
        answers, log, commands = await asyncio.gather(*serving, by_hand)
    left = {**answers, "its log as JSON": log, **commands}
    leaks = {where: found for where, output in left.items() if (found := heard(output))}
    count("outputs without a secret", len(left) - len(leaks), len(left))
    assert leaks == {}


@pytest.mark.parametrize("user", ["", "u", "us", "user:"])
def test_a_canary_would_be_heard(user: str) -> None:
    """The ear itself: what finds nothing must be able to find something."""
    secret = canary("pg-url")
    for text in (secret, quote(secret, safe=""), json.dumps(secret), html.escape(secret), secret.upper(), secret[:-5]):
        assert heard(f"connect to {user}{text} failed") == {"pg-url-"}
    assert heard(f"Authorization: Basic {b64encode(f'{user}{secret}'.encode()).decode()}") == {"in base64"}
    assert heard("postgres postgresql://…@127.0.0.1:1/x: connection refused") == set()
