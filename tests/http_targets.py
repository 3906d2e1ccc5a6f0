"""Real HTTP servers on loopback for the HTTP probe, which note what they were asked."""

import http.server
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import trustme
from aiohttp import web

from exporter.demo.servers import HOST

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived. `certificate`: whether the client presented one."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    certificate: bool


@dataclass(slots=True)
class Target:
    """A running server: where it is and what it was asked so far."""

    url: str
    place: str
    port: int
    asked: list[Asked] = field(default_factory=list)


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = HOST, name: str | None = None
) -> AsyncIterator[Target]:
    """A server on a free port, reached as `name`, by default its address."""
    target = Target("", "", 0)

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        presented = bool(request.transport.get_extra_info("peercert"))
        headers = {key.lower(): value for key, value in request.headers.items()}
        target.asked.append(Asked(request.method, str(request.rel_url), headers, await request.read(), presented))
        return await handler(request)

    runner = web.ServerRunner(web.Server(note), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        target.port = int(runner.addresses[0][1])
        shown = name or (f"[{host}]" if ":" in host else host)
        target.place = f"{shown}:{target.port}"
        target.url = f"{'https' if tls else 'http'}://{target.place}"
        yield target
    finally:
        await runner.cleanup()


def answering(status: int = 200, body: bytes = b"hello", **headers: str) -> Handler:
    """The same answer to everything. Header names with `_` for `-`."""

    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return handle


def redirecting(location: str | Callable[[], str], status: int = 302) -> Handler:
    """Redirects everything to `location`."""

    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": location if isinstance(location, str) else location()})

    return handle


class _OpensslServer(http.server.HTTPServer):
    """Shakes hands on a blocking socket; a client it refuses is sent the alert, and then read to its end, so that no RST
    overtakes the alert."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__((HOST, 0), http.server.BaseHTTPRequestHandler)
        self._context = context

    def finish_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)
        with self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as connection:
            connection.settimeout(5)
            with suppress(OSError):
                try:
                    connection.do_handshake()
                    connection.recv(1)
                except ssl.SSLError:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass


@contextmanager
def serving_by_openssl(context: ssl.SSLContext) -> Iterator[int]:
    """A TLS server on blocking sockets. Unlike asyncio's it sends the alert that says why it refuses a client."""
    server = _OpensslServer(context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Certificates:
    """An authority, its certificate as a file, and contexts for servers that it vouches for."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.client_file = str(folder / "client.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.authority.issue_cert("client@localhost").private_key_and_cert_chain_pem.write_to_path(self.client_file)

    def server(
        self,
        *names: str,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        client: ssl.VerifyMode = ssl.CERT_NONE,
    ) -> ssl.SSLContext:
        """A server's context; `client` says whether it asks for a certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf = self.authority.issue_cert(*(names or (HOST, "localhost", "::1")), not_before=not_before, not_after=not_after)
        leaf.configure_cert(context)
        if client is not ssl.CERT_NONE:
            self.authority.configure_trust(context)
            context.verify_mode = client
        return context
