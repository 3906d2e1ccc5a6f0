"""One client's connection: aiohttp's protocol, our own words for what is not HTTP, and an end for every client. Knows no route.

What is overridden are public methods of `web.RequestHandler`; of its state `_waiter` and `_messages` are looked at. A version of
aiohttp that does without one of these fails tests/web/test_connection.py.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from aiohttp.http import HttpProcessingError

from exporter.web.answers import text

KEEPALIVE_SECONDS = 75.0
"""Above a scrape interval of 1m. Also ends what never sends a whole request: bytes that trickle in do not prolong it."""
_LINGERING_SECONDS = 1.0  # for the rest of a body that nobody asked for

_NOT_HTTP = "this is not HTTP/1.1 (RFC 9112), or a line of it is above 8190 bytes, or it has more than 128 headers"
_VERBS = ("GET", "HEAD", "POST")
# a whole, clean request line within what the parser complains of: then the verb is what it does not know (llhttp has a closed list)
_REQUEST_LINE = re.compile(r"b'[-!#$%&*+.^_`|~0-9A-Za-z]+ /[^\s\\]* HTTP/1\.[01]'")

_log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """Made by the listening socket for each client. `refused` is told the status of each answer that no route has given."""

    __slots__ = ("_half_closed", "_refused")

    def __init__(self, server: web.Server, refused: Callable[[int], None]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            logger=_log,
            access_log=None,  # type: ignore[arg-type]  # it costs half of the throughput, and requests are counted
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=_LINGERING_SECONDS,
            auto_decompress=False,  # no body is read here; a small one can be the seed of a very large one
        )
        self._refused = refused
        self._half_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no whole request has come that is not answered yet."""
        return self._waiter is not None and not self._waiter.done()

    # -- how it begins and ends --------------------------------------------------------------------------------------

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
        self._close_after_the_last()
        if isinstance(resp, web.HTTPException):
            resp = _routeless(request.method, resp.status)
            self._refused(resp.status)
        return await super().finish_response(request, resp, start_time)


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
