"""Compresses bodies in a thread of its own, each body once. Knows no route and no header.

The loop's default executor is for nobody here: a name lookup or import that hangs in it would hang /metrics too, and its
threads are joined at exit. This thread is a daemon that nobody waits for.
"""

import asyncio
import gzip
import threading
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

SMALLEST_BYTES = 1024
"""Below this a body is sent as it is: compressing would cost more than it saves."""

_LEVEL = 1  # of zlib: 2.7 times as fast as 6 for a fifth more bytes, measured on a 768 KiB exposition
_KEPT = 16
_DEADLINE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Job:
    body: bytes
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[bytes | None]"


class Gzip:
    """One compressing thread, started at first use, and the last bodies it made. Mutable; belongs to one event loop."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._kept: OrderedDict[Hashable, _Job] = OrderedDict()
        self._thread: threading.Thread | None = None

    async def compress(self, key: Hashable, body: bytes) -> bytes | None:
        """The body compressed; None when it could not be done in time, so that it is sent as it is.

        `key` says what the body is of; the same body under the same key is compressed once, also for requests that come
        while it is being done.
        """
        job = self._kept.get(key)
        if job is None or job.body != body or (job.answer.done() and job.answer.result() is None):
            job = self._begin(key, body)
        with suppress(TimeoutError):
            async with asyncio.timeout(_DEADLINE_SECONDS):
                return await asyncio.shield(job.answer)
        return None

    def _begin(self, key: Hashable, body: bytes) -> _Job:
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name="gzip", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = self._kept[key] = _Job(body, loop, loop.create_future())
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        self._jobs.put(job)
        return job

    async def stop(self, _: object = None) -> None:
        """Lets the thread end when it has done what it was given; nobody waits for it."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None


def _work(jobs: "SimpleQueue[_Job | None]") -> None:
    """The thread. The loop may be closed by the time a body is done."""
    while (job := jobs.get()) is not None:
        packed: bytes | None
        try:
            packed = gzip.compress(job.body, _LEVEL, mtime=0)
        except (MemoryError, zlib.error):
            packed = None
        with suppress(RuntimeError):
            job.loop.call_soon_threadsafe(_answer, job.answer, packed)
        del job, packed


def _answer(answer: "asyncio.Future[bytes | None]", packed: bytes | None) -> None:
    if not answer.done():
        answer.set_result(packed)
