"""Answers the questions about the targets: all of them, one of them, and their circuits. Knows no paths and no schedule."""

import asyncio
from http import HTTPStatus

from aiohttp import web

from exporter.health import ProbeHealth, report
from exporter.model import Snapshot
from exporter.web import Sources
from exporter.web.access import Access
from exporter.web.answers import HTML, TEXT, answer, document, excluded, health_code, wanted_form
from exporter.web.health_json import circuit_document, health_document, probe_document
from exporter.web.health_text import health_text, probe_text
from exporter.web.history_json import availability_document, history_document
from exporter.web.named import find, own_names
from exporter.web.negotiation import Form
from exporter.web.page import Page
from exporter.web.wording import View


class Health:
    """What the targets are like: JSON for machines, text for terminals, HTML for browsers."""

    def __init__(self, sources: Sources, access: Access) -> None:
        self._sources = sources
        self._access = access
        self._page: Page

    async def prepare(self, _: web.Application) -> None:
        """Reads and compiles the page's template, off the loop, before the first request can come."""
        self._page = await asyncio.to_thread(Page, self._sources.version)

    async def page(self, request: web.Request) -> web.Response:
        """`/`: always 200, since the page itself is there."""
        snapshot = self._sources.snapshot()
        return self._html(request, self._view(request, snapshot), snapshot, HTTPStatus.OK)

    async def aggregate(self, request: web.Request) -> web.Response:
        """`/health` in the form asked for."""
        return self._aggregate(request, wanted_form(request))

    async def aggregate_text(self, request: web.Request) -> web.Response:
        """`/health.txt`: the path says the form."""
        return self._aggregate(request, Form.TEXT)

    def _aggregate(self, request: web.Request, form: Form) -> web.Response:
        snapshot = self._sources.snapshot()
        view = self._view(request, snapshot, own_names(snapshot, excluded(request)))
        code = health_code(view.report.status, request)
        if form is Form.HTML:
            return self._html(request, view, snapshot, code)
        if form is Form.TEXT:
            return answer(health_text(view).encode("utf-8", "replace"), TEXT, code, Vary="Accept")
        return document(health_document(view, self._sources.version, view.age(snapshot.started)), code)

    async def probe(self, request: web.Request) -> web.Response:
        """`/health/NAME`: 200 or 503 by that probe alone, judged among all others."""
        form = wanted_form(request)
        snapshot = self._sources.snapshot()
        view = self._view(request, snapshot)
        health = self._named(request, snapshot, view)
        code = health_code(health.status, request)
        if form is Form.HTML:
            return self._html(request, view, snapshot, code, health)
        if form is Form.TEXT:
            return answer(probe_text(health, view).encode("utf-8", "replace"), TEXT, code, Vary="Accept")
        return document({"name": health.probe.name, **probe_document(health, view)}, code)

    async def probes(self, request: web.Request) -> web.Response:
        """`/api/v1/probes`: what is configured and how it stands; always 200."""
        view = self._view(request, self._sources.snapshot())
        return document({"probes": {health.probe.name: self._summary(health, view) for health in view.report.probes}})

    async def one_probe(self, request: web.Request) -> web.Response:
        """`/api/v1/probes/NAME`."""
        snapshot = self._sources.snapshot()
        view = self._view(request, snapshot)
        health = self._named(request, snapshot, view)
        return document({"name": health.probe.name, **self._summary(health, view)})

    async def history(self, request: web.Request) -> web.Response:
        """`/api/v1/probes/NAME/history`: always 200, however the probe stands."""
        snapshot = self._sources.snapshot()
        view = self._view(request, snapshot)
        name = self._named(request, snapshot, view).probe.name
        return document({"name": name, **history_document(self._sources.history(name), view)})

    async def circuits(self, _: web.Request) -> web.Response:
        """`/api/v1/circuits`: where every circuit stands; always 200."""
        now = self._sources.now()
        probes = self._sources.snapshot().probes
        return document({"circuits": {probe.name: circuit_document(probe.circuit, now) for probe in probes}})

    async def one_circuit(self, request: web.Request) -> web.Response:
        """`/api/v1/circuits/NAME`."""
        probe = find(self._sources.snapshot(), request.match_info["name"])
        return document({"name": probe.name, **circuit_document(probe.circuit, self._sources.now())})

    def _view(self, request: web.Request, snapshot: Snapshot, left_out: frozenset[str] = frozenset()) -> View:
        now = self._sources.now()
        details = self._access.shows_details(request.headers.get("Authorization"))
        return View(report(snapshot, now, left_out), now, self._sources.wall(), details)

    def _named(self, request: web.Request, snapshot: Snapshot, view: View) -> ProbeHealth:
        name = find(snapshot, request.match_info["name"]).name
        return next(health for health in view.report.probes if health.probe.name == name)

    def _summary(self, health: ProbeHealth, view: View) -> dict[str, object]:
        probe = health.probe
        return {
            "type": probe.type,
            "enabled": probe.enabled,
            "critical": probe.critical,
            "aliases": probe.aliases,
            "depends_on": probe.depends_on,
            "status": health.status,
            "circuit": circuit_document(probe.circuit, view.now),
            **availability_document(self._sources.recent(probe.name).availability),
        }

    def _html(
        self, request: web.Request, view: View, snapshot: Snapshot, code: int, only: ProbeHealth | None = None
    ) -> web.Response:
        root = "../" * (request.path.count("/") - 1)
        body = self._page.render(view, self._sources.recent, snapshot, root, only)
        return answer(body, HTML, code, Vary="Accept", **self._page.headers)
