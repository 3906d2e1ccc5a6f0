"""Answers for this process itself. Looks at no target, so that none can get a pod restarted, unrouted or held back."""

from http import HTTPStatus

from aiohttp import web

from exporter.health import failing_self_check
from exporter.web import Lifecycle, Sources
from exporter.web.answers import TEXT, answer, text


class Vitals:
    """Liveness, readiness and start-up, for Kubernetes and Docker."""

    def __init__(self, sources: Sources, lifecycle: Lifecycle) -> None:
        self._sources = sources
        self._lifecycle = lifecycle

    async def alive(self, _: web.Request) -> web.Response:
        """`/livez`: whether the schedule beats and the loop turns."""
        return _told(failing_self_check(self._sources.snapshot(), self._sources.now()))

    async def ready(self, _: web.Request) -> web.Response:
        """`/readyz`: whether requests should come here."""
        return _told("shutdown: draining after SIGTERM" if self._lifecycle.draining else self._starting())

    async def started(self, _: web.Request) -> web.Response:
        """`/startupz`: whether the configuration is loaded and served."""
        return _told(self._starting())

    def _starting(self) -> str | None:
        return None if self._lifecycle.started else "start-up: the configuration is not loaded yet"


def _told(failing: str | None) -> web.Response:
    """Exactly `ok`, as Kubernetes' own components answer, or the failing self-check."""
    return answer(b"ok", TEXT) if failing is None else text(failing, HTTPStatus.SERVICE_UNAVAILABLE)
