"""The health aggregator that today's set needs beside its exporters: /health folds what each of them says into one status.

`aggregator.py PORT NAME=URL…`
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from exporter.demo.servers import HOST

TIMEOUT_SECONDS = 5.0
SESSION = web.AppKey("session", ClientSession)


async def _says(session: ClientSession, url: str) -> str:
    try:
        async with session.get(url) as response:
            text = await response.text()
    except (ClientError, TimeoutError):
        return "unhealthy"
    return "unhealthy" if any(line.endswith("_up 0") or line == "probe_success 0" for line in text.splitlines()) else "healthy"


def _application(urls: Mapping[str, str]) -> web.Application:
    async def health(request: web.Request) -> web.Response:
        said = await asyncio.gather(*(_says(request.app[SESSION], url) for url in urls.values()))
        well = all(status == "healthy" for status in said)
        return web.json_response(dict(zip(urls, said, strict=True)), status=200 if well else 503)

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(timeout=ClientTimeout(TIMEOUT_SECONDS)) as app[SESSION]:
            yield

    application = web.Application()
    application.cleanup_ctx.append(session)
    application.router.add_get("/health", health)
    application.router.add_get("/", ready)
    return application


if __name__ == "__main__":
    pairs = (argument.split("=", 1) for argument in sys.argv[2:])
    web.run_app(_application(dict(pairs)), host=HOST, port=int(sys.argv[1]), access_log=None, print=None, reuse_address=True)
