"""The table of paths, and what happens around every request: verb, tally, and the last resort for a bug of ours.

Each path takes every verb here, so that 405, HEAD and unknown paths get our own answers and are counted.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from exporter.web import Commands, Lifecycle, Sources
from exporter.web.access import Access
from exporter.web.answers import Declined, declined, text
from exporter.web.compression import Gzip
from exporter.web.health_routes import Health
from exporter.web.metrics_routes import Metrics
from exporter.web.operations import Operations
from exporter.web.tally import Labels, Tally
from exporter.web.vitals import Vitals

Answerer = Callable[[web.Request], Awaitable[web.Response]]

_OTHER = "other"
_MAY_FAIL = frozenset({"health", "probe", "livez", "readyz", "startupz"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """A path (as aiohttp writes it), the value of its `handler` label, and who answers which verb; HEAD goes with GET."""

    path: str
    handler: str
    verbs: Mapping[str, Answerer]

    @property
    def allow(self) -> str:
        """The value of the header Allow."""
        return ", ".join(word for verb in self.verbs for word in ((verb, "HEAD") if verb == "GET" else (verb,)))


def _get(path: str, handler: str, answerer: Answerer, **verbs: Answerer) -> Route:
    return Route(path, handler, {"GET": answerer, **verbs})


def _table(health: Health, vitals: Vitals, metrics: Metrics, operations: Operations) -> tuple[Route, ...]:
    return (
        _get("/", "page", health.page),
        _get("/health", "health", health.aggregate),
        _get("/api/v1/health", "health", health.aggregate),
        _get("/health.txt", "health", health.aggregate_text),
        _get("/health/{name}", "probe", health.probe),
        _get("/api/v1/health/{name}", "probe", health.probe),
        _get("/livez", "livez", vitals.alive),
        _get("/-/healthy", "livez", vitals.alive),
        _get("/readyz", "readyz", vitals.ready),
        _get("/-/ready", "readyz", vitals.ready),
        _get("/startupz", "startupz", vitals.started),
        _get("/metrics", "metrics", metrics.scrape),
        _get("/api/v1/metrics", "metrics", metrics.scrape),
        _get("/api/v1/probes", "api", health.probes, POST=operations.other),
        _get("/api/v1/probes/{name}", "api", health.one_probe, POST=operations.other),
        _get("/api/v1/probes/{name}/history", "api", health.history, POST=operations.other),
        _get("/api/v1/circuits", "api", health.circuits, POST=operations.other),
        _get("/api/v1/circuits/{name}", "api", health.one_circuit, POST=operations.circuit),
        Route("/api/v1/probes/{name}/run", "operation", {"POST": operations.run}),
        Route("/-/reload", "operation", {"POST": operations.reload}),
    )


class Surface:
    """The whole HTTP surface: `application` to serve, `tally` of what was asked."""

    def __init__(self, sources: Sources, lifecycle: Lifecycle, commands: Commands | None = None) -> None:
        access = Access(sources.web)
        health = Health(sources, access)
        gzip = Gzip()
        operations = Operations(sources, access, commands)
        table = _table(health, Vitals(sources, lifecycle), Metrics(sources, gzip), operations)
        self._now = sources.now
        self._paths = ", ".join(route.path.replace("{name}", "NAME") for route in table)
        self.tally = Tally(_expected(table))
        self.application = web.Application()
        for route in (*table, Route("/{path:.*}", _OTHER, {})):
            self.application.router.add_route("*", route.path, self._served(route))
        self.application.on_startup.append(health.prepare)
        self.application.on_cleanup.append(gzip.stop)

    def refused(self, code: int) -> None:
        """Counts an answer that no route has given: to what is no request, or names no path."""
        self.tally.count(_OTHER, _OTHER, code, 0.0)

    def _served(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            began = self._now()
            response = await self._answer(route, request)
            self.tally.count(route.handler, request.method, response.status, self._now() - began)
            return response

        return serve

    async def _answer(self, route: Route, request: web.Request) -> web.Response:
        answerer = route.verbs.get("GET" if request.method == "HEAD" else request.method)
        if answerer is None:
            return self._no_answerer(route)
        try:
            return await answerer(request)
        except Declined as reason:
            return declined(request, reason)
        except Exception:  # noqa: BLE001 - around one request: a bug of ours costs this answer and no other
            # the path could hold what a client should not have put there: the route's name says enough
            _log.exception("request to %s failed", route.path)
            return text("internal error; the log says more", HTTPStatus.INTERNAL_SERVER_ERROR)

    def _no_answerer(self, route: Route) -> web.Response:
        if route.handler == _OTHER:
            return text(f"no such path; there are: {self._paths}", HTTPStatus.NOT_FOUND)
        return text(f"this path takes {route.allow}", HTTPStatus.METHOD_NOT_ALLOWED, Allow=route.allow)


def _expected(table: tuple[Route, ...]) -> list[Labels]:
    """The label sets that stand at 0 from the start: each handler's good answer, and the 503 that alerts look for."""
    handlers = dict.fromkeys(route.handler for route in table if "GET" in route.verbs)
    good = [(handler, "GET", "200") for handler in handlers]
    bad = [(handler, "GET", "503") for handler in handlers if handler in _MAY_FAIL]
    return [*good, *bad, ("operation", "POST", "403"), (_OTHER, "GET", "404")]
