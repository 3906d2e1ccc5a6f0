"""aiohttp with one handler that answers the same bytes: no exporter can be faster on the same server. `fixed.py PORT FILE`."""

import asyncio
import sys
from pathlib import Path

from aiohttp import web

from exporter.demo.servers import HOST

TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def serve(port: int, body: bytes) -> None:
    """Until it is ended; without an access log, which costs half of the throughput."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": TYPE})

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, reuse_address=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
