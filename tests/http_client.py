"""The HTTP driver's client as its tests use it: one answer, or the error that asking ends with."""

import asyncio

import pytest

from exporter.drivers.dns import Resolver
from exporter.drivers.http import Answer, Client, Hop, Request
from exporter.drivers.kept import Lease
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import CHECK
from exporter.secret import Secret

HEAD = b"HTTP/1.1 200 OK\r\n"


async def fetch(
    url: str,
    trail: list[Hop] | None = None,
    *,
    tls: Tls | None = None,
    lease: Lease | None = None,
    seconds: float = 10,
    **request: object,
) -> Answer:
    """One answer from a client of its own."""
    client = Client(Resolver(), tls or Tls())
    asked = Request(Secret(url), **request)  # type: ignore[arg-type]
    async with asyncio.timeout(seconds):
        return await client.fetch(asked, [] if trail is None else trail, lease or Lease(CHECK))


async def failure(url: str, **options: object) -> ProbeError:
    """The error that asking ends with."""
    with pytest.raises(ProbeError) as caught:
        await fetch(url, **options)  # type: ignore[arg-type]
    return caught.value
