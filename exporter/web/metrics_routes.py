"""Answers a scrape: the exposition in the format and coding asked for. Knows no metric."""

from aiohttp import web

from exporter.web import Sources
from exporter.web.answers import answer, listed
from exporter.web.compression import SMALLEST_BYTES, Gzip
from exporter.web.named import find
from exporter.web.negotiation import codings, wants_openmetrics

TEXT_0_0_4 = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_1_0_0 = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_VARY = "Accept, Accept-Encoding"


class Metrics:
    """`/metrics`, whole or for one probe."""

    def __init__(self, sources: Sources, gzip: Gzip) -> None:
        self._sources = sources
        self._gzip = gzip

    async def scrape(self, request: web.Request) -> web.Response:
        """The whole exposition, or with `?probe=NAME` what one probe contributes."""
        name = request.query.get("probe")
        if name is None:
            return await self._exposition(request, None)
        return await self._exposition(request, find(self._sources.snapshot(), name).name)

    async def _exposition(self, request: web.Request, probe: str | None) -> web.Response:
        openmetrics = wants_openmetrics(listed(request, "Accept"))
        body = self._sources.metrics(openmetrics, probe)
        content_type = OPENMETRICS_1_0_0 if openmetrics else TEXT_0_0_4
        wanted = codings(listed(request, "Accept-Encoding"))
        if wanted.gzip and (len(body) >= SMALLEST_BYTES or not wanted.identity):
            packed = await self._gzip.compress((openmetrics, probe), body)
            if packed is not None:
                return answer(packed, content_type, Vary=_VARY, Content_Encoding="gzip")
        return answer(body, content_type, Vary=_VARY)
