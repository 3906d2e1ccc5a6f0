"""The Echo probe: one line there and back decides, on a connection of its own."""

import asyncio
import time

from exporter import phase
from exporter.errors import AssertionFailed, ProbeError
from exporter.model import Family, Reading, Reason
from exporter.probes.base import Probe
from sidecar_echo.settings import ROUND_TRIP, EchoSettings


class EchoProbe(Probe[EchoSettings]):
    """One server."""

    async def check(self) -> Reading:
        settings = self.settings
        place = f"{settings.host}:{settings.port}"
        (address, *_) = await self.runtime.resolver.resolve(settings.host)
        with phase.waiting(f"connect {place}"):
            reader, writer = await asyncio.open_connection(address.ip, settings.port)
        try:
            began = time.monotonic()
            writer.write(b"hello\n")
            with phase.waiting(f"echo from {place}"):
                answer = await reader.readline()
            took = time.monotonic() - began
        finally:
            writer.transport.abort()
        if answer != b"hello\n":
            raise AssertionFailed(f"{place} sent something else back")
        return Reading((Family(ROUND_TRIP, (((), took),)),), detail={"tls": False})

    @staticmethod
    def translate(error: Exception) -> ProbeError | None:
        if isinstance(error, ConnectionRefusedError):
            return ProbeError(Reason.REFUSED, "connection refused")
        return ProbeError(Reason.RESET, "connection reset") if isinstance(error, ConnectionError) else None
