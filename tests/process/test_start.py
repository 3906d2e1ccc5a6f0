"""The start of a real exporter: it listens first, and imports what is configured and no more, off the loop."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import Running
from tests.servers import eventually_now

ONLY = {
    "postgres": "{type: postgres, url: 'postgresql://x@127.0.0.1:1/x'}",
    "redis": "{type: redis, url: 'redis://127.0.0.1:1'}",
    "rabbitmq": "{type: rabbitmq, url: 'amqp://127.0.0.1:1/'}",
    "celery over rabbitmq": "{type: celery, broker_url: 'amqp://127.0.0.1:1/'}",
    "celery over redis": "{type: celery, broker_url: 'redis://127.0.0.1:1/'}",
    "http": "{type: http, url: 'http://127.0.0.1:1/'}",
}
DRIVERS = {
    "postgres": {"asyncpg"},
    "redis": {"redis"},
    "rabbitmq": {"aiormq", "pamqp"},
    "celery over rabbitmq": {"aiormq", "pamqp"},
    "celery over redis": {"redis"},
    "http": set[str](),
}

TELLING = '''\
"""Writes the names of all imported modules to a file at each SIGUSR1."""

import signal
import sys
from pathlib import Path


def tell(number, frame):
    Path({told!r}).write_text(" ".join({{name.partition(".")[0] for name in sys.modules}}) + " .")


signal.signal(signal.SIGUSR1, tell)
'''

SLOW = '''\
"""Stands where asyncpg is: importing it takes until the test says so, then fails as a driver does that is not installed."""

import time
from pathlib import Path

Path({begun!r}).touch()
while not Path({released!r}).exists():
    time.sleep(0.01)
raise ImportError("as planned", name="libpq")
'''


def script(folder: Path, name: str, text: str, **paths: Path) -> dict[str, str]:
    """Environment for a child in which `name` is such a module."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text.format(**{key: str(path) for key, path in paths.items()}))
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("kind", ONLY)
def test_only_the_configured_drivers_are_imported(tmp_path: Path, kind: str) -> None:
    """Memory and start are paid for what is used: each driver is megabytes and tenths of a second."""
    told = tmp_path / "modules"
    environment = script(tmp_path / "site", "sitecustomize", TELLING, told=told)
    with Running(tmp_path, f"probes: {{one: {ONLY[kind]}}}", environment) as exporter:
        eventually_now(lambda: exporter.health("one")["last_run"], 15)
        exporter.process.send_signal(signal.SIGUSR1)
        modules = set(eventually_now(lambda: complete(told), 10))
    assert "aiohttp" in modules
    assert modules & set().union(*DRIVERS.values(), {"aio_pika", "celery", "kombu"}) == DRIVERS[kind]


def complete(path: Path) -> list[str]:
    """The words of a file that ends with a full stop; none before."""
    words = path.read_text().split() if path.exists() else []
    return words[:-1] if words[-1:] == ["."] else []


def test_it_answers_while_a_driver_is_being_imported(tmp_path: Path) -> None:
    """It listens first, and imports in a thread: a slow disk must not let a start-up probe or a scrape wait."""
    begun, released = tmp_path / "begun", tmp_path / "released"
    environment = script(tmp_path / "site", "asyncpg", SLOW, begun=begun, released=released)
    with Running(tmp_path, f"probes: {{db: {ONLY['postgres']}}}", environment) as exporter:
        eventually_now(begun.exists, 10)
        took = [seconds(lambda: exporter.get("/livez")) for _ in range(50)]
        assert [exporter.get(path)[0] for path in ("/livez", "/readyz", "/startupz", "/metrics", "/")] == [200] * 5
        assert exporter.status("db") == "unknown"
        assert not released.exists()
        released.touch()
        eventually_now(lambda: exporter.status("db") == "unhealthy", 10)
        assert exporter.terminate(5) == 0
    print(f"slowest of 50 answers while importing: {max(took) * 1000:.1f} ms")
    assert max(took) < 1.0


def seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began
