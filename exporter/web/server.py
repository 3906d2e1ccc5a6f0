"""Listens: sockets of our own making, aiohttp behind them, and a bounded end. Knows no route."""

import asyncio
import errno
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

from aiohttp import web

from exporter.config import Listen
from exporter.drivers.dns import Resolver
from exporter.errors import ProbeError
from exporter.web.connection import Connection, Connections

MOST_CONNECTIONS = 512
"""Open at a time; fewer where the process may have fewer than 1024 files open."""

_BACKLOG = 1024  # connections that come faster than they are made; one that finds it full is tried again by its client after 1 s
_LOOKUP_SECONDS = 5.0
_SHUTDOWN_SECONDS = 0.5  # answers come from memory: what is not sent by then has a client that does not read
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True, slots=True)
class Server:
    """A listening server. `host` as configured (empty: all interfaces), `port` the one really bound."""

    host: str
    port: int
    _runner: web.AppRunner
    _listening: tuple[asyncio.Server, ...]

    @property
    def url(self) -> str:
        """Where a client on this machine finds it."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def aclose(self) -> None:
        """Stops listening and ends every connection, within about a second."""
        for listening in self._listening:
            listening.close()
        await self._runner.cleanup()


async def start(listen: Listen, application: web.Application, refused: Callable[[int], None] = lambda _: None) -> Server:
    """Serves `application` on `listen`. `refused` is told the status of each answer that none of its routes has given.

    Raises:
        OSError: the address cannot be bound (errno EADDRINUSE: the port is taken), or the host name does not resolve.
    """
    sockets = await _bind(listen.host.strip("[]"), listen.port)
    runner = web.AppRunner(application, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    server = cast(web.Server, runner.server)  # there is none before setup()
    most = _most_connections()
    connected = partial(Connection, server, Connections(most), refused)
    loop = asyncio.get_running_loop()
    # asyncio takes as many as `backlog` at once, and some turns later closes those for which they are too many
    listening = [await loop.create_server(connected, sock=bound, backlog=max(1, most // 8)) for bound in sockets]
    for bound in sockets:
        bound.listen(_BACKLOG)
    return Server(listen.host.strip("[]"), sockets[0].getsockname()[1], runner, tuple(listening))


def _most_connections() -> int:
    """At most half of the files that may be open: the other half is for what is probed."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 2)


async def _bind(host: str, port: int) -> list[socket.socket]:
    if host in ("", "::"):
        return [_everywhere(port)]
    if host == "localhost":
        return _loopback(port)
    return [_socket(await _literal(host), port)]


def _everywhere(port: int) -> socket.socket:
    """IPv4 and IPv6 on one socket, so that port 0 is one port; IPv4 alone where the kernel has no IPv6."""
    try:
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    except ValueError:  # compiled out
        return _socket("0.0.0.0", port)  # noqa: S104 - all interfaces is what was asked for
    except OSError as error:  # switched off by sysctl
        if error.errno not in _NO_IPV6:
            raise
        return _socket("0.0.0.0", port)  # noqa: S104


def _loopback(port: int) -> list[socket.socket]:
    """Both addresses of `localhost`, known without a lookup: busybox's wget asks ::1 and no other."""
    first = _socket("127.0.0.1", port)
    with suppress(OSError):  # no IPv6 here, or the port is free on IPv4 alone
        return [first, _socket("::1", first.getsockname()[1])]
    return [first]


def _socket(ip: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return socket.create_server((ip, port), family=family, backlog=_BACKLOG)


async def _literal(host: str) -> str:
    """The address itself, or the first one of a name; the lookup may hang, so it is bounded and nobody's executor is used."""
    try:
        async with asyncio.timeout(_LOOKUP_SECONDS):
            return (await Resolver().resolve(host))[0].ip
    except TimeoutError:
        raise OSError(errno.EADDRNOTAVAIL, f"resolve {host}: no answer within {_LOOKUP_SECONDS:.0f}s") from None
    except ProbeError as error:
        raise OSError(errno.EADDRNOTAVAIL, error.message) from error
