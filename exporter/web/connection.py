"""One client's connection: aiohttp's protocol, our own words for what is not HTTP, and an end for every client. Knows no route.

What is overridden are public methods of `web.RequestHandler`; of its state `_waiter` and `_messages` are looked at. A version of
aiohttp that does without one of these fails tests/web/test_connection.py.
"""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.http import HttpProcessingError

from exporter.web.answers import text

MOST_HEAD_BYTES = 32 * 1024
"""Of a request's line and headers, while they are not complete; no single line is longer than 8190 bytes (aiohttp's limit)."""
MOST_UNREAD_BYTES = 32 * 1024 * 1024
"""Of answers that clients have asked for and do not read, over all connections."""
UNREAD_SECONDS = 30.0
"""How long an answer waits to be read: three times Prometheus' scrape_timeout."""
KEEPALIVE_SECONDS = 75.0
"""Above a scrape interval of 1m. Also ends what never sends a whole request: bytes that trickle in do not prolong it."""
_LINGERING_SECONDS = 1.0  # for the rest of a body that nobody asked for

_NOT_HTTP = "this is not HTTP/1.1 (RFC 9112), or a line of it is above 8190 bytes, or it has more than 128 headers"
_VERBS = ("GET", "HEAD", "POST")
# a whole, clean request line within what the parser complains of: then the verb is what it does not know (llhttp has a closed list)
_REQUEST_LINE = re.compile(r"b'[-!#$%&*+.^_`|~0-9A-Za-z]+ /[^\s\\]* HTTP/1\.[01]'")

_log = logging.getLogger(__name__)


class Connections:
    """The open connections of a server, at most `most`, and what their clients have yet to read. Mutable, on one loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: OrderedDict[Connection, None] = OrderedDict()  # the longest unused first
        self._unread: dict[Connection, None] = {}  # the longest unread first

    def add(self, new: "Connection") -> None:
        """Where there is no room, the longest unused goes; one that is being answered only if all are."""
        if len(self._open) >= self._most:
            _log.warning("%d connections are open, as many as there may be: the longest unused is closed", self._most)
            self._end(next((old for old in self._open if old.is_idle), next(iter(self._open))))
        self._open[new] = None

    def used(self, connection: "Connection") -> None:
        """A request on it has come and is being answered."""
        if connection in self._open:
            self._open.move_to_end(connection)

    def unread(self, connection: "Connection") -> None:
        """Its client has yet to read; of too much unread, the oldest goes, never the newest."""
        self._unread[connection] = None
        while len(self._unread) > 1 and sum(waiting.unread_bytes for waiting in self._unread) > MOST_UNREAD_BYTES:
            _log.warning("clients leave more than %d bytes of answers unread: the oldest is dropped", MOST_UNREAD_BYTES)
            self._end(next(iter(self._unread)))

    def read(self, connection: "Connection") -> None:
        """Its client has read everything."""
        self._unread.pop(connection, None)

    def remove(self, connection: "Connection") -> None:
        self._open.pop(connection, None)
        self._unread.pop(connection, None)

    def _end(self, connection: "Connection") -> None:
        self.remove(connection)
        connection.force_close()


class Connection(web.RequestHandler):
    """Made by the listening socket for each client. `refused` is told the status of each answer that no route has given."""

    __slots__ = ("_connections", "_half_closed", "_head_bytes", "_refused", "_unread_end")

    def __init__(self, server: web.Server, connections: Connections, refused: Callable[[int], None]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=_log,
            access_log=None,  # type: ignore[arg-type]  # it costs half of the throughput, and requests are counted
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=_LINGERING_SECONDS,
            auto_decompress=False,  # no body is read here; a small one can be the seed of a very large one
        )
        self._connections = connections
        self._refused = refused
        self._half_closed = False
        self._head_bytes = 0
        self._unread_end: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no whole request has come that is not answered yet."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def unread_bytes(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    # -- how it begins and ends --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=0)  # an answer is given once all of it is with the kernel
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.remove(self)
        self._stop_waiting()
        # thrown into what waits for the client to read, the error would keep the answer alive until the collector runs
        super().connection_lost(None)

    def force_close(self) -> None:
        """Ends it now; merely closed, it would stay for as long as its client does not read the rest."""
        transport = self.transport
        super().force_close()
        if transport is not None:
            transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio keeps it open for writing on True; aiohttp never does
        """A client may say with its request that it was the last (`nc -N`): it is answered all the same."""
        if self.is_idle:
            return False
        self._half_closed = True
        self._close_after_the_last()
        return True

    def _close_after_the_last(self) -> None:
        if self._half_closed and not self._messages:
            self.close()

    # -- what comes in -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_idle:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                super().data_received(b"\0")  # no parser takes this: so it ends as all that is not HTTP
        else:
            self._head_bytes = 0
        self._forget_bytes()

    def _forget_bytes(self) -> None:
        """A parser's error keeps, by its traceback, what it was given and this connection, until the collector runs."""
        error = getattr(self._messages[-1][0], "exc", None) if self._messages else None
        if error is not None:
            error.__traceback__ = None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Our answer to what the parser refuses, without a byte of it, and to a bug between it and the routes."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun: no other can follow")
        if isinstance(exc, HttpProcessingError):
            response = _unparsed(message or "")
        else:
            self.log_exception("request was not answered; please report it", exc_info=exc)
            response = text("internal error; the log says more", status)
        self._refused(response.status)
        response.force_close()
        return response

    # -- what goes out -----------------------------------------------------------------------------------------------

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self._connections.used(self)
        self._close_after_the_last()
        if isinstance(resp, web.HTTPException):
            resp = _routeless(request.method, resp.status)
            self._refused(resp.status)
        return await super().finish_response(request, resp, start_time)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_end = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self.force_close)
        self._connections.unread(self)

    def resume_writing(self) -> None:
        self._connections.read(self)
        self._stop_waiting()
        super().resume_writing()

    def _stop_waiting(self) -> None:
        if self._unread_end is not None:
            self._unread_end.cancel()
            self._unread_end = None


def _unparsed(complaint: str) -> web.Response:
    """To what the parser refuses: 405 for a verb that it does not know, on an otherwise proper line; else 400."""
    return _no_such_verb() if _REQUEST_LINE.search(complaint) else text(_NOT_HTTP, HTTPStatus.BAD_REQUEST)


def _routeless(method: str, status: int) -> web.Response:
    """To what aiohttp refuses before any route: no path at all (CONNECT, `OPTIONS *`), an Expect that it does not know."""
    if status == HTTPStatus.NOT_FOUND and method not in _VERBS:
        return _no_such_verb()
    return text(HTTPStatus(status).phrase.lower(), status)


def _no_such_verb() -> web.Response:
    allow = ", ".join(_VERBS)
    return text(f"this server takes {allow}", HTTPStatus.METHOD_NOT_ALLOWED, Allow=allow)
