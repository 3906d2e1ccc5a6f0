"""Opens a TCP connection to whichever address of a host answers first. Knows no protocol above TCP and resolves no name."""

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from itertools import chain, zip_longest

from exporter.drivers.dns import Address, Addresses

STAGGER_SECONDS = 0.25
"""How long one address may take before the next is tried beside it (RFC 8305, section 5: "Connection Attempt Delay")."""


async def connect(addresses: Addresses, port: int) -> socket.socket:
    """A connected, non-blocking socket, which the caller owns.

    The families take turns, so that a host whose IPv6 leads nowhere is reached by IPv4 after a quarter of a second.

    Raises:
        OSError: no address could be connected; a refusal, if there was one, for then the host is there.
    """
    queue = deque(_interleaved(addresses))
    attempts: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while queue or attempts:
            if queue:
                attempts.add(asyncio.create_task(_attempt(queue.popleft(), port)))
            done, attempts = await asyncio.wait(
                attempts, timeout=STAGGER_SECONDS if queue else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner = _winner(done, errors)
            if winner is not None:
                return winner
    finally:
        for attempt in attempts:
            _discard(attempt)
    raise _most_telling(errors)


def _interleaved(addresses: Addresses) -> Iterable[Address]:
    first = addresses[0].family
    same = [address for address in addresses if address.family == first]
    other = [address for address in addresses if address.family != first]
    return (address for address in chain.from_iterable(zip_longest(same, other)) if address is not None)


async def _attempt(address: Address, port: int) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # asyncio sets it on sockets of its own alone; without it AMQP pays 40 ms a connect (Nagle against delayed ACK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, _socket_address(address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _socket_address(address: Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if address.family != socket.AF_INET6:
        return (address.ip, port)
    ip, _, scope = address.ip.partition("%")  # with the scope left in, asyncio would look the address up in its executor
    return (ip, port, 0, socket.if_nametoindex(scope) if scope else 0)


def _winner(done: set["asyncio.Task[socket.socket]"], errors: list[OSError]) -> socket.socket | None:
    """The first socket of those that came in together; the others are closed, the failures added to `errors`."""
    winner: socket.socket | None = None
    for attempt in done:
        error = attempt.exception()
        if isinstance(error, OSError):
            errors.append(error)
        elif winner is None:
            winner = attempt.result()
        else:
            attempt.result().close()
    return winner


def _discard(attempt: "asyncio.Task[socket.socket]") -> None:
    attempt.cancel()
    attempt.add_done_callback(_close_result)


def _close_result(attempt: "asyncio.Task[socket.socket]") -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _most_telling(errors: list[OSError]) -> OSError:
    return next((error for error in errors if isinstance(error, ConnectionRefusedError)), errors[0])
