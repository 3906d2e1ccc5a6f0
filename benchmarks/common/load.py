"""A bounded HTTP client in a process of its own: so many connections, each one request at a time, for so many seconds.

Reads answers into one buffer per connection, without parsing more than status and Content-Length: the server is to be the
bottleneck. `python -m benchmarks.common.load PLAN` prints what came of it; both are JSON.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.common.processes import percentile
from exporter.demo.servers import HOST
from exporter.demo.servers.python import python, python_path

PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "User-Agent": "Prometheus/2.55.0",
}
"""What a scrape says, but for Accept-Encoding."""
BUFFER_BYTES = 256 * 1024
GRACE_SECONDS = 15.0
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"Content-Length: "


@dataclass(frozen=True, slots=True)
class Plan:
    """`pause_seconds` lies between the beginnings of two requests of one connection; 0: the next one follows at once."""

    port: int
    path: str = "/metrics"
    headers: Mapping[str, str] = field(default_factory=dict)
    connections: int = 16
    seconds: float = 2.0
    pause_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a plan: answers within its time, and how long they took."""

    requests: int
    seconds: float
    p50_seconds: float
    p99_seconds: float
    longest_seconds: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


class Ask(asyncio.BufferedProtocol):
    """One connection; mutable. `answered` is called at the end of each answer."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = bytearray(BUFFER_BYTES)
        self._held = 0
        self._missing = 0
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def once(self) -> None:
        """Asks and waits for the whole answer; raises ConnectionError, ValueError when there is none, or a bad one."""
        assert self._transport is not None
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        await self._done

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._held :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._missing:
            self._missing -= nbytes
        else:
            self._held += nbytes
            end = self._buffer.find(_HEAD_END, 0, self._held)
            if end < 0:
                return
            self._missing = self._length(end) - (self._held - end - len(_HEAD_END))
            self._held = 0
        if self._missing == 0 and self._done is not None:
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def _length(self, end: int) -> int:
        head = bytes(self._buffer[:end])
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")):  # /health of a target that is down
            raise ValueError(head.partition(b"\r\n")[0].decode(errors="replace"))
        return int(head.partition(_LENGTH)[2].partition(b"\r\n")[0])


async def run(plan: Plan) -> Result:
    """Carries it out."""
    lines = (f"GET {plan.path} HTTP/1.1", f"Host: {HOST}", *(f"{name}: {value}" for name, value in plan.headers.items()))
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    loop = asyncio.get_running_loop()
    asks = [(await loop.create_connection(lambda: Ask(request), HOST, plan.port))[1] for _ in range(plan.connections)]
    began = time.perf_counter()
    took = await asyncio.gather(*(_again_and_again(ask, plan, began) for ask in asks))
    seconds = time.perf_counter() - began
    every = [one for some in took for one in some]
    return Result(len(every), seconds, percentile(every, 0.5), percentile(every, 0.99), max(every))


async def _again_and_again(ask: Ask, plan: Plan, began: float) -> list[float]:
    took: list[float] = []
    due = began
    while (now := time.perf_counter()) < began + plan.seconds:
        await ask.once()
        took.append(time.perf_counter() - now)
        if plan.pause_seconds:
            due += plan.pause_seconds
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return took


def loaded(*plans: Plan) -> Sequence[Result]:
    """Carries out plans side by side, each in a process of its own; raises subprocess.SubprocessError when one fails."""
    clients = [_client(plan) for plan in plans]
    try:
        return [_result(client, plan) for client, plan in zip(clients, plans, strict=True)]
    finally:
        for client in clients:
            client.kill()
            client.wait()


def _client(plan: Plan) -> "subprocess.Popen[str]":
    command = [*python("benchmarks.common.load"), json.dumps(asdict(plan))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=python_path(), text=True)


def _result(client: "subprocess.Popen[str]", plan: Plan) -> Result:
    out, _ = client.communicate(timeout=plan.seconds + GRACE_SECONDS)
    if client.returncode:
        raise subprocess.CalledProcessError(client.returncode, "the load client")
    return Result(**json.loads(out))


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(Plan(**json.loads(sys.argv[1])))))))
