"""Looks names up before a driver sees them: at most one lookup in flight per name, in threads that nobody waits for.

`getaddrinfo` can hang for minutes and cannot be cancelled. The event loop's own executor would be blocked by it, and its
threads are joined when the interpreter ends; these are daemon threads of our own, so a dead resolver delays neither another
name nor the exit.
"""

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from exporter import phase
from exporter.drivers.thread import in_thread
from exporter.errors import ProbeError
from exporter.model import Reason


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a name: `family` is AF_INET or AF_INET6, `ip` its text."""

    family: int
    ip: str


Addresses = tuple[Address, ...]


def _literal(host: str) -> Addresses:
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return ()
    return (Address(socket.AF_INET if ip.version == 4 else socket.AF_INET6, host),)


class Resolver:
    """Resolves names for all probes of the process; mutable: it knows which lookups are under way."""

    def __init__(self) -> None:
        self._lookups: dict[str, asyncio.Future[Addresses]] = {}

    async def resolve(self, host: str) -> Addresses:
        """Addresses of `host`, in the resolver's order, at least one.

        Raises:
            ProbeError: reason dns; the name does not resolve. A name that never answers is left to the caller's deadline,
                which then reads `dns` too.
        """
        literal = _literal(host)
        if literal:
            return literal
        with phase.waiting(f"resolve {host}", Reason.DNS):
            try:
                return await asyncio.shield(self._lookup(host))
            except OSError as error:
                what = error.strerror if isinstance(error, socket.gaierror) else type(error).__name__
                raise ProbeError(Reason.DNS, f"resolve {host}: {what}") from error
            except UnicodeError as error:
                raise ProbeError(Reason.DNS, f"resolve {host}: not a host name", retryable=False) from error

    def _lookup(self, host: str) -> asyncio.Future[Addresses]:
        under_way = self._lookups.get(host)
        if under_way is not None:
            return under_way
        try:
            answer = in_thread(f"lookup {host}", lambda: _look_up(host))
        except RuntimeError as error:  # the process may start no more threads
            raise ProbeError(Reason.DNS, f"resolve {host}: no thread can be started for it") from error
        answer.add_done_callback(lambda _: self._lookups.pop(host, None))
        self._lookups[host] = answer
        return answer


def _look_up(host: str) -> Addresses:
    """Blocks for as long as the resolver likes."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(Address(family, str(address[0])) for family, _, _, _, address in found))
