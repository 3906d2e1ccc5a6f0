"""One HTTP request, redirects included, on fresh connections: what was answered and how long each phase took.

Owns aiohttp's client and the translation of its exceptions. No connection serves twice: a kept one says "connected" over a
dead socket. Knows no settings and no schedule, and does not judge an answer.
"""

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from time import monotonic
from typing import Literal

from aiohttp import (
    BaseConnector,
    ClientConnectionError,
    ClientError,
    ClientHandlerType,
    ClientPayloadError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    CookieJar,
    InvalidURL,
    ServerDisconnectedError,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, LineTooLong, TransferEncodingError
from aiohttp.tracing import Trace
from yarl import URL

from exporter import __version__
from exporter.drivers import tcp, x509
from exporter.drivers.dns import Addresses, Resolver
from exporter.drivers.kept import Lease
from exporter.drivers.tls import Tls, client_context, describe
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.phase import waiting
from exporter.secret import Secret

BODY_LIMIT_BYTES = 1024 * 1024
"""As much of a body is read, as it comes over the wire; the connection is closed on the rest."""

MOST_REDIRECTS = 10

Phase = Literal["resolve", "connect", "tls", "processing", "transfer"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ANYWHERE = frozenset({"accept", "accept-language", "accept-encoding", "user-agent"})
"""The only configured headers that another host is sent: any other may be a credential, whatever its name."""

_LONGEST_PATH = 80
# long, or of middling length with letters and digits mixed, or with what names seldom hold
_TOKEN_LIKE = re.compile(r".{25,}|(?=.*[0-9])(?=.*[A-Za-z]).{12,}|.*[:%@=].*")
_NO_TIMEOUT = ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)  # the run's deadline stands above
_NO_TLS_TIMEOUT_SECONDS = 86400.0  # asyncio's default of 60 s could come before the deadline


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask. `url` is absolute, http or https, without userinfo. `authorization` is the whole value of that header.

    `authorization`, `body` and all `headers` but the harmless ones stay at the url's origin (scheme, host and port), whoever
    redirects us; once it was left they are not sent again, not even back there.
    """

    url: Secret
    method: str = "GET"
    headers: Mapping[str, Secret] = field(default_factory=dict)
    authorization: Secret | None = None
    body: Secret | None = None
    follow_redirects: bool = True


@dataclass(frozen=True, slots=True)
class Session:
    """An established TLS session: `version` as OpenSSL writes it (`TLSv1.3`); `expires` the earliest end of a certificate
    that the server sent, in Unix seconds, None when none could be read."""

    version: str
    expires: float | None


@dataclass(slots=True)
class Hop:
    """What one request of the chain measured so far; filled as it proceeds, so it also tells of a failure. A phase that did
    not end is not in `seconds`."""

    seconds: dict[Phase, float] = field(default_factory=dict)
    ip_version: Literal[4, 6] | None = None
    tls: Session | None = None
    connected_at: float = 0.0

    @contextmanager
    def timing(self, phase: Phase) -> Iterator[None]:
        """Notes how long the block took, if it ended well."""
        started = monotonic()
        yield
        self.seconds[phase] = monotonic() - started


@dataclass(frozen=True, slots=True)
class Answer:
    """The last answer of a chain. `where` names it in messages, safely. `body` is as transferred, at most BODY_LIMIT_BYTES,
    `complete` when that is all of it. `authorized`: our authorization had been sent with the request."""

    where: str
    status: int
    http_version: str
    body: bytes
    complete: bool
    authorized: bool
    content_length: int | None = None
    content_encoding: str = ""
    charset: str | None = None
    retry_after: str | None = None

    @property
    def phrase(self) -> str:
        """`503 Service Unavailable`: the words are the standard's, never the server's."""
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)


class Client:
    """Asks one request at a time; mutable: it keeps TLS contexts, which take 15 ms to make from the system's certificates."""

    def __init__(self, resolver: Resolver, tls: Tls) -> None:
        self._resolver = resolver
        self._tls = tls
        self._contexts: dict[Tls, ssl.SSLContext] = {}

    async def fetch(self, request: Request, trail: list[Hop], lease: Lease) -> Answer:
        """The answer after at most MOST_REDIRECTS redirects; one Hop a request is added to `trail`, also when it fails.

        `lease` is told how to abort the connection now open.

        Raises:
            ProbeError: no answer, or redirects that cannot be followed (reason http_status).
        """
        try:
            return await self._follow(_first(request), trail, lease)
        except ProbeError as error:
            if error.reason is Reason.TLS:
                self._contexts.clear()  # so that a renewed file takes effect
            raise

    async def _follow(self, step: "_Step", trail: list[Hop], lease: Lease) -> Answer:
        start, cookies = step, CookieJar()  # a page that sets a cookie and redirects to itself would loop without
        for _ in range(1 + MOST_REDIRECTS):
            hop = Hop()
            trail.append(hop)
            async with self._asked(step, hop, cookies, lease) as response:
                location = response.headers.get("Location")
                if not step.request.follow_redirects or response.status not in _REDIRECTS or location is None:
                    return await _answer(step, hop, response)
            step = step.redirected(response.status, location)
        raise ProbeError(Reason.HTTP_STATUS, f"{start.where}: more than {MOST_REDIRECTS} redirects", retryable=False)

    @asynccontextmanager
    async def _asked(self, step: "_Step", hop: Hop, cookies: CookieJar, lease: Lease) -> AsyncIterator[ClientResponse]:
        """The response of one request, its body unread; the connection is gone after the block."""
        connector = _Connector(self, step, hop, lease)
        async with ClientSession(
            connector=connector,
            cookie_jar=cookies,
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        ) as session:
            try:
                with waiting(step.where):
                    response = await session.request(
                        step.method,
                        step.url,
                        headers=step.headers,
                        data=step.body,
                        allow_redirects=False,
                        middlewares=(_translated(step.where),),
                    )
                hop.seconds["processing"] = monotonic() - hop.connected_at
                try:
                    yield response
                finally:
                    response.close()
            finally:
                connector.abort()

    async def resolve(self, host: str) -> Addresses:
        return await self._resolver.resolve(host)

    def context(self, step: "_Step") -> tuple[ssl.SSLContext, str]:
        """How to speak TLS for a request: the context, and the name to send and to verify.

        Another host than the configured one is asked for its own name, and never offered the client certificate.
        """
        tls = self._tls if step.own else replace(self._tls, cert_file=None, key_file=None)
        if tls not in self._contexts:
            self._contexts[tls] = client_context(tls)
        name = tls.server_name if step.at_origin else None
        return self._contexts[tls], (name or step.url.raw_host or "").rstrip(".")


async def _answer(step: "_Step", hop: Hop, response: ClientResponse) -> Answer:
    with waiting(f"{step.where}, reading the body"), hop.timing("transfer"), _translating(f"{step.where}, reading the body"):
        body, complete = await _body(response)
    version = response.version
    return Answer(
        where=step.where,
        status=response.status,
        http_version=f"{version.major}.{version.minor}" if version else "",
        body=body,
        complete=complete,
        authorized=step.authorized,
        content_length=response.content_length,
        content_encoding=response.headers.get("Content-Encoding", "").strip().lower(),
        charset=response.charset,
        retry_after=response.headers.get("Retry-After"),
    )


async def _body(response: ClientResponse) -> tuple[bytes, bool]:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_LIMIT_BYTES:
            return bytes(body[:BODY_LIMIT_BYTES]), False
    return bytes(body), True


@dataclass(frozen=True, slots=True)
class _Step:
    """One request of the chain. `own`: the configured origin was never left, so that it may see credentials."""

    request: Request
    origin: URL
    method: str
    url: URL
    where: str
    own: bool = True

    @property
    def place(self) -> str:
        return _place(self.url)

    @property
    def at_origin(self) -> bool:
        return self.url.origin() == self.origin

    @property
    def authorized(self) -> bool:
        return self.own and (
            self.request.authorization is not None or any(n.lower() == "authorization" for n in self.request.headers)
        )

    @property
    def headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"sidecar-exporter/{__version__}"}
        for name, value in self.request.headers.items():
            if self.own or name.lower() in _ANYWHERE:
                headers["User-Agent" if name.lower() == "user-agent" else name] = value.reveal()
        if self.own and self.request.authorization is not None:
            headers["Authorization"] = self.request.authorization.reveal()
        return headers

    @property
    def body(self) -> bytes | None:
        if self.request.body is None or self.method != self.request.method:
            return None
        return self.request.body.reveal().encode()

    def redirected(self, status: int, location: str) -> "_Step":
        """The request that a redirect asks for (RFC 9110, section 15.4; 301 and 302 turn POST into GET, as browsers do).

        Raises:
            ProbeError: it leads nowhere we would go.
        """
        becomes_get = (status == HTTPStatus.SEE_OTHER and self.method != "HEAD") or (status in (301, 302) and self.method == "POST")
        method = "GET" if becomes_get else self.method
        url = self._target(location)
        step = replace(self, method=method, url=url, own=self.own and url.origin() == self.origin)
        if step.body is not None and not step.own:
            raise self._refused("redirects to another host, which is not sent the body")
        return replace(step, where=f"{self.where.partition(' → ')[0]} → {step.place}")

    def _target(self, location: str) -> URL:
        try:
            url = self.url.join(URL(location)).with_fragment(None).with_user(None)
            url.origin()
        except ValueError as error:
            raise self._refused("redirects to an address that cannot be read") from error
        if url.scheme not in ("http", "https"):
            raise self._refused("redirects to something that is not http")
        if not url.host or location.strip() in ("//", "http://", "https://"):
            raise self._refused("redirects to an address that cannot be read")
        return url

    def _refused(self, why: str) -> ProbeError:
        return ProbeError(Reason.HTTP_STATUS, f"{self.where}: {why}", retryable=False)


def _first(request: Request) -> _Step:
    try:
        url = URL(request.url.reveal()).with_fragment(None)
        origin = url.origin()
    except ValueError as error:
        raise ProbeError(Reason.CONFIG, "the url cannot be read") from error
    return _Step(request, origin, request.method, url, f"{request.method} {_place(url)}{shown_path(url.raw_path)}")


def shown_path(path: str) -> str:
    """A path as messages show it: cut, and without the segments that look like tokens (`/bot123456:AAF…/getMe`, a webhook's)."""
    shown = "/".join("…" if _TOKEN_LIKE.fullmatch(segment) else segment for segment in path.split("/"))
    if len(shown) <= _LONGEST_PATH:
        return shown
    return f"{shown[:_LONGEST_PATH].rpartition('/')[0]}/…"  # whole segments: part of a secret is known to no redactor


def _place(url: URL) -> str:
    host = url.host or ""
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


class _Handler(ResponseHandler):
    """Ends the body when it cannot be parsed any further. aiohttp 3.14 fails only the next response then, and whoever reads
    the body waits for ever."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            failure = ClientPayloadError()
            failure.__cause__ = exc
            body.set_exception(failure)


class _Connector(BaseConnector):
    """Opens the connection of one request, phase by phase. aiohttp's own connector looks names up itself and does not tell
    where TCP ends and TLS begins."""

    def __init__(self, client: Client, step: _Step, hop: Hop, lease: Lease) -> None:
        super().__init__(force_close=True)
        self._client = client
        self._step = step
        self._hop = hop
        self._lease = lease
        self._opened: list[asyncio.Transport] = []

    def abort(self) -> None:
        """Closes the connection without waiting for the peer: a TLS shutdown may wait for 30 s."""
        while self._opened:
            self._opened.pop().abort()

    async def _create_connection(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> ResponseHandler:
        url, where = self._step.url, f"connect {self._step.place}"
        security = self._client.context(self._step) if url.scheme == "https" else None  # its files may be missing: first
        with self._hop.timing("resolve"):
            addresses = await self._client.resolve(url.raw_host or "")
        with waiting(where), _translating(where), self._hop.timing("connect"):
            sock = await tcp.connect(addresses, url.port or 0)
        self._hop.ip_version = 6 if sock.family == socket.AF_INET6 else 4
        self._lease.hold(lambda: _shut_down(sock))
        protocol = await (self._start(sock) if security is None else self._start_tls(sock, *security))
        self._hop.connected_at = monotonic()
        return protocol

    async def _start_tls(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> ResponseHandler:
        where = f"TLS handshake with {self._step.place}"
        with waiting(where), _translating(where), self._hop.timing("tls"):
            protocol = await self._start(sock, context, name)
        connection = self._opened[-1].get_extra_info("ssl_object")
        self._hop.tls = Session(connection.version(), x509.earliest_expiry(connection))
        return protocol

    async def _start(self, sock: socket.socket, tls: ssl.SSLContext | None = None, name: str | None = None) -> ResponseHandler:
        transport, protocol = await asyncio.get_running_loop().create_connection(
            lambda: _Handler(asyncio.get_running_loop()),
            sock=sock,
            ssl=tls,
            server_hostname=name,
            ssl_handshake_timeout=_NO_TLS_TIMEOUT_SECONDS if tls else None,
        )
        self._opened.append(transport)
        self._lease.hold(transport.abort)
        return protocol


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # not close: the loop still watches the descriptor


def _translated(where: str) -> Callable[[ClientRequest, ClientHandlerType], Awaitable[ClientResponse]]:
    """A middleware that translates: what aiohttp does not know it does not repeat (it asks again after a lost connection)."""

    async def once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        with _translating(where):
            return await handler(request)

    return once


@contextmanager
def _translating(where: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, OSError) as error:
        failure = translate(error, where)
        if failure is None:
            raise
        raise failure from error


def translate(error: Exception, where: str = "") -> ProbeError | None:
    """The ProbeError for an exception of aiohttp, TLS or a socket; None for our own bug.

    `where` says what was being done, such as `GET app:8000/health`. Nothing that the peer sent gets into the message.
    """
    verdict = _verdict(_cause(error))
    if verdict is None:
        return None
    reason, what = verdict
    return ProbeError(reason, f"{where}: {what}" if where else what)


def _cause(error: BaseException) -> BaseException:
    """What lies below aiohttp's wrappers."""
    while isinstance(error, ClientError) and error.__cause__ is not None:
        error = error.__cause__
    return error


_CUT_OFF = "connection closed in the middle of the body"
_VERDICTS: tuple[tuple[type[Exception], Reason, str], ...] = (
    (ServerDisconnectedError, Reason.RESET, "connection closed before an answer"),
    (ContentLengthError, Reason.RESET, _CUT_OFF),
    (TransferEncodingError, Reason.RESET, _CUT_OFF),  # only at the connection's end; a wrong chunk is an HttpProcessingError
    (HttpProcessingError, Reason.PROTOCOL, "the answer is not valid HTTP"),
    (ClientPayloadError, Reason.PROTOCOL, "the body is not valid HTTP"),
    (ClientResponseError, Reason.PROTOCOL, "the answer is not valid HTTP"),
    (InvalidURL, Reason.CONFIG, "the url cannot be read"),
    (ConnectionRefusedError, Reason.REFUSED, "connection refused"),
    (ConnectionResetError, Reason.RESET, "connection reset"),
    (BrokenPipeError, Reason.RESET, "connection reset"),
    (ConnectionAbortedError, Reason.RESET, "connection aborted"),
    (TimeoutError, Reason.TIMEOUT, "connection timed out"),
)
"""The first row that fits an exception decides."""

_UNREACHABLE = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
"""Of a connect; the last two come from a firewall on this machine."""


def _verdict(error: BaseException) -> tuple[Reason, str] | None:
    if isinstance(error, ssl.SSLError):
        return Reason.TLS, _tls_fault(error)
    for kind, reason, what in _VERDICTS:
        if isinstance(error, kind):
            return reason, "a line of the answer's header is too long" if isinstance(error.__cause__, LineTooLong) else what
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return Reason.UNREACHABLE, os.strerror(error.errno).lower()
    if isinstance(error, ClientConnectionError):
        return Reason.RESET, "connection closed"
    return None


_CERTIFICATE_FAULTS = {  # X509_V_ERR_* of OpenSSL's x509_vfy.h
    9: "the certificate is not yet valid",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the certificate's authority is not trusted",
    20: "the certificate's authority is not trusted",
    21: "the certificate's authority is not trusted",
    23: "the certificate was revoked",
    62: "the certificate is for another name",
    64: "the certificate is for another address",
}
_TLS_FAULTS = {  # reasons of OpenSSL 3's sslerr.h
    "WRONG_VERSION_NUMBER": "the server does not speak TLS",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS",
    "HTTP_REQUEST": "the server does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "no TLS version in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "no TLS version in common",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server asks for a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust our client certificate",
}


def _tls_fault(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_FAULTS.get(error.verify_code, "the certificate cannot be verified")
    return _TLS_FAULTS.get(error.reason or "") or describe(error)
