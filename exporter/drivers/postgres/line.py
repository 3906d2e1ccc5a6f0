"""Opens the way to a server: its name looked up, its addresses tried in order, TLS as sslmode says. Knows no SQL and no asyncpg.

`sslmode` as libpq defines it: https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from exporter import phase
from exporter.drivers import unix
from exporter.drivers.dns import Address, Resolver
from exporter.drivers.postgres.errors import translated
from exporter.drivers.postgres.framing import Framing
from exporter.drivers.tls import Tls, client_context
from exporter.errors import ProbeError
from exporter.model import Reason

ADDRESS_SECONDS = 1.0
"""How long an address may take that is not the last one of its name: a dead one must not use up the whole deadline."""

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens and how to speak to it. A `host` that begins with `/` is the folder of a Unix socket."""

    host: str
    port: int
    sslmode: str = "prefer"
    tls: Tls = field(default_factory=Tls)

    @property
    def is_socket(self) -> bool:
        return self.host.startswith("/")

    @property
    def place(self) -> str:
        """For messages: `host:port`, or the path of the socket."""
        if self.is_socket:
            return f"{self.host}/.s.PGSQL.{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def attempts(self) -> tuple[bool, ...]:
        """Whether to speak TLS, in the order in which it is tried; a socket never does."""
        if self.is_socket:
            return (False,)
        return {"disable": (False,), "allow": (False, True), "prefer": (True, False)}.get(self.sslmode, (True,))


async def open_line(endpoint: Endpoint, encrypted: bool, resolver: Resolver, hold: Callable[[Callable[[], None]], None]) -> Framing:
    """A connection on which nothing was said yet but the TLS handshake; `hold` is given what aborts it.

    With `encrypted` and sslmode prefer a server without TLS is spoken to in plain.

    Raises:
        ProbeError: it cannot be reached, its name does not resolve, or TLS cannot be had as sslmode asks for it.
    """
    line = await _dial(endpoint, resolver)
    hold(line.abort)
    try:
        if encrypted:
            await _secure(endpoint, line)
    except BaseException:
        line.abort()
        raise
    return line


async def _dial(endpoint: Endpoint, resolver: Resolver) -> Framing:
    if endpoint.is_socket:
        with phase.waiting(f"connect {endpoint.place}"), translated(f"connect {endpoint.place}"):
            return await unix.connect(endpoint.place, lambda: Framing(endpoint.place))
    *others, last = await resolver.resolve(endpoint.host)
    for address in others:
        try:
            async with asyncio.timeout(ADDRESS_SECONDS):
                return await _connect(endpoint, address)
        except (ProbeError, TimeoutError):
            continue
    return await _connect(endpoint, last)


async def _connect(endpoint: Endpoint, address: Address) -> Framing:
    loop = asyncio.get_running_loop()
    with phase.waiting(f"connect {endpoint.place}"), translated(f"connect {endpoint.place}"):
        _, line = await loop.create_connection(
            lambda: Framing(endpoint.place), address.ip, endpoint.port, family=address.family, flags=socket.AI_NUMERICHOST
        )
    return line


async def _secure(endpoint: Endpoint, line: Framing) -> None:
    where = f"TLS with {endpoint.place}"
    with phase.waiting(where), translated(where):
        context = _context(endpoint)
        if not await line.offers_tls():
            if endpoint.sslmode == "prefer":
                return
            raise ProbeError(Reason.TLS, f"{where}: the server does not offer TLS")
        await line.start_tls(context, endpoint.tls.server_name or endpoint.host)


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    """Up to require nothing is verified, unless require names a CA: then it is verify-ca, as in libpq."""
    verified = endpoint.sslmode.startswith("verify") or (endpoint.sslmode == "require" and endpoint.tls.ca_file is not None)
    tls = endpoint.tls if verified else replace(endpoint.tls, insecure_skip_verify=True)
    return client_context(tls, check_hostname=endpoint.sslmode == "verify-full")
