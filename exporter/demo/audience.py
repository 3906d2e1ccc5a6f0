"""Looks at the exporter as anybody would: over HTTP, at /health.txt and /metrics."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Self

import aiohttp

LOOK_SECONDS = 0.25
_TIMEOUT = aiohttp.ClientTimeout(total=2)


@dataclass(frozen=True, slots=True)
class Look:
    """Both pages at one moment, empty where nothing answered."""

    health: str = ""
    metrics: str = ""

    @property
    def status(self) -> str:
        """The first word of /health.txt: healthy, degraded, unhealthy or unknown."""
        return self.health.split(maxsplit=1)[0] if self.health.strip() else "no answer"

    def line(self, probe: str) -> str:
        """The line of one probe in /health.txt, behind its `[+]`."""
        lines = [line[4:] for line in self.health.splitlines()[1:]]
        return next((line for line in lines if line.split(" ", 1)[0] == probe), "")

    def circuit(self, probe: str) -> str:
        """The state of a probe's circuit, from sidecar_circuit_state: one of its samples is 1."""
        for line in self.samples("sidecar_circuit_state", f'probe="{probe}"'):
            if float(line.rpartition(" ")[2]) == 1:
                return line.partition('state="')[2].partition('"')[0]
        return "unknown"

    def samples(self, name: str, label: str = "") -> list[str]:
        """The lines of a metric that has labels, those with `label` among them."""
        return [line for line in self.metrics.splitlines() if line.startswith(name + "{") and label in line]


class Audience:
    """Looks, again and again; mutable only in its HTTP session. `before` is called ahead of each look, and may raise to end it."""

    def __init__(self, url: str, session: aiohttp.ClientSession, before: Callable[[], None]) -> None:
        self._url = url
        self._session = session
        self._before = before

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, before: Callable[[], None]) -> AsyncIterator[Self]:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, headers={"Accept": "text/plain"}) as session:
            yield cls(url, session, before)

    async def look(self) -> Look:
        self._before()
        return Look(await self._get("/health.txt"), await self._get("/metrics"))

    async def sees(self, what: Callable[[Look], object]) -> Look:
        """The first look that shows it; the caller has the deadline."""
        while True:
            look = await self.look()
            if what(look):
                return look
            await asyncio.sleep(LOOK_SECONDS)

    async def _get(self, path: str) -> str:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.get(self._url + path) as response:
                return await response.text()
        return ""
