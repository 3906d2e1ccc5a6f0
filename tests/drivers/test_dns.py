"""Name lookups: one in flight per name, in threads that nobody waits for."""

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from exporter import phase
from exporter.drivers.dns import Address, Resolver
from exporter.errors import ProbeError
from exporter.model import Reason
from tests.faults import hanging_names
from tests.servers import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> "Lookups":
    """Takes the place of getaddrinfo: counts, and waits until told."""
    counted = Lookups()
    monkeypatch.setattr(socket, "getaddrinfo", counted.getaddrinfo)
    return counted


class Lookups:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.answer = threading.Event()

    def getaddrinfo(self, host: str, _port: object, **_options: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        self.names.append(host)
        self.answer.wait(20)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("fe80::1%lo", socket.AF_INET6)]
)
async def test_an_address_is_not_looked_up(lookups: Lookups, host: str, family: int) -> None:
    """No thread for what needs no resolver."""
    assert await Resolver().resolve(host) == (Address(family, host),)
    assert lookups.names == []


async def test_localhost_resolves() -> None:
    """The real resolver is asked, and gives loopback addresses, each once."""
    addresses = await Resolver().resolve("localhost")
    assert {address.ip for address in addresses} <= {"127.0.0.1", "::1"}
    assert len(set(addresses)) == len(addresses) > 0


async def test_an_unknown_name_is_reason_dns() -> None:
    """.invalid never resolves (RFC 6761)."""
    with pytest.raises(ProbeError, match=r"^resolve nowhere\.invalid: ") as caught:
        await Resolver().resolve("nowhere.invalid")
    assert caught.value.reason is Reason.DNS


@pytest.mark.parametrize("host", ["x" * 70 + ".invalid", "a..b"])
async def test_what_is_no_host_name_is_reason_dns_and_not_tried_again(host: str) -> None:
    """The IDNA codec refuses it with an error of its own."""
    with pytest.raises(ProbeError) as caught:
        await Resolver().resolve(host)
    assert (caught.value.reason, caught.value.retryable) == (Reason.DNS, False)


async def test_one_lookup_in_flight_per_name(lookups: Lookups) -> None:
    """A dead name asked for by many costs one thread, and a waiter that gives up does not end it for the others."""
    resolver = Resolver()
    waiters = [asyncio.create_task(resolver.resolve("db.internal")) for _ in range(5)]
    await eventually(lambda: lookups.names, within=5)
    waiters.pop().cancel()
    waiters.append(asyncio.create_task(resolver.resolve("db.internal")))
    await asyncio.sleep(0)
    assert lookups.names == ["db.internal"]
    lookups.answer.set()
    assert await asyncio.wait_for(asyncio.gather(*waiters), 5) == [(Address(socket.AF_INET, "127.0.0.1"),)] * 5


async def test_an_answered_name_is_looked_up_anew(lookups: Lookups) -> None:
    """A failover changes the address behind a name: nothing is cached."""
    lookups.answer.set()
    resolver = Resolver()
    for _ in range(2):
        await resolver.resolve("db.internal")
    assert lookups.names == ["db.internal"] * 2


async def test_a_deadline_during_a_lookup_reads_dns(lookups: Lookups) -> None:
    """Whoever's deadline comes while a name hangs is told that it was the name."""
    phases = phase.begin()
    task = asyncio.create_task(Resolver().resolve("db.internal"))
    await eventually(lambda: lookups.names, within=5)
    assert phases.innermost == ("resolve db.internal", Reason.DNS)
    task.cancel()
    await asyncio.wait([task])
    assert phases.innermost == ("", Reason.TIMEOUT)
    lookups.answer.set()


_HANGS = """
import asyncio
from exporter.drivers.dns import Resolver

async def main():
    resolver = Resolver()
    dead = asyncio.create_task(resolver.resolve("dead.internal"))
    await asyncio.sleep(0)
    print((await resolver.resolve("localhost"))[0].ip, dead.done(), flush=True)
    dead.cancel()

asyncio.run(main())
"""


def test_a_lookup_that_hangs_delays_no_other_name_and_no_exit(tmp_path: Path) -> None:
    """getaddrinfo cannot be cancelled, and the interpreter would join a pool's threads for ever."""
    environment = hanging_names(tmp_path, "dead.internal")
    environment["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run([sys.executable, "-c", _HANGS], env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"127.0.0.1 False", "::1 False"}


async def test_a_lookup_whose_thread_cannot_start_does_not_stand_in_the_way_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may be out of threads for a moment; the name must not be dead for ever."""
    resolver = Resolver()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ProbeError, match="no thread"):
            await resolver.resolve("localhost")
    assert await resolver.resolve("localhost")
