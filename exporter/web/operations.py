"""Answers the operators' POSTs: judges the right, then hands the order to `Commands`. Carries nothing out itself."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from exporter.web import Commands, Refused, Sources
from exporter.web.access import Access
from exporter.web.answers import Declined, text
from exporter.web.named import find

DEADLINE_SECONDS = 30.0
"""Above every command's own deadline."""

Order = Callable[[Commands], Awaitable[str]]


class Operations:
    """What changes state. `commands` is None where the process offers none."""

    def __init__(self, sources: Sources, access: Access, commands: Commands | None) -> None:
        self._sources = sources
        self._access = access
        self._commands = commands

    async def reload(self, request: web.Request) -> web.Response:
        """`POST /-/reload`."""
        self._authorise(request)
        return await self._obey(lambda commands: commands.reload())

    async def run(self, request: web.Request) -> web.Response:
        """`POST /api/v1/probes/NAME/run`."""
        self._authorise(request)
        probe = find(self._sources.snapshot(), request.match_info["name"])
        return await self._obey(lambda commands: commands.run(probe.name))

    async def circuit(self, request: web.Request) -> web.Response:
        """`POST /api/v1/circuits/NAME`: the right is judged; what may be ordered is not offered yet."""
        self._authorise(request)
        find(self._sources.snapshot(), request.match_info["name"])
        return await self._obey(None)

    async def other(self, request: web.Request) -> web.Response:
        """A POST to what can be looked at alone: whoever has no right learns no more than that."""
        self._authorise(request)
        return await self._obey(None)

    def _authorise(self, request: web.Request) -> None:
        if not self._access.has_token:
            sentence = "changes are off: no token is configured (web.token or EXPORTER_TOKEN)"
            raise Declined(HTTPStatus.FORBIDDEN, sentence)
        if not self._access.permits(request.headers.get("Authorization")):
            sentence = "this needs the header `Authorization: Bearer TOKEN` with the configured token"
            raise Declined(HTTPStatus.FORBIDDEN, sentence)

    async def _obey(self, order: Order | None) -> web.Response:
        if self._commands is None or order is None:
            raise Declined(HTTPStatus.NOT_IMPLEMENTED, "this exporter does not offer this operation")
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return text(await order(self._commands))
        except Refused as refused:
            return text(str(refused), HTTPStatus.CONFLICT)  # plain, as the good answer is: it may be a list of problems
        except TimeoutError as error:
            raise Declined(HTTPStatus.GATEWAY_TIMEOUT, f"not done within {DEADLINE_SECONDS:.0f}s") from error
