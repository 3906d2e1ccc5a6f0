"""Notices that a file may have changed, however: written, renamed over, or behind a symbolic link that was swapped, as Kubernetes
does with a ConfigMap's folder. Whether it says something else is for the reader to find out.

Looks at what the path leads to instead of listening to the file: a watch on a file misses the swap, and some mounts tell nothing.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK_SECONDS = 1.0

Signature = tuple[int, int, int, int] | None


class Watch:
    """What was seen of a file; mutable, used by one thread. A change counts once two looks in a row have seen the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._look()
        self._settled: Signature | object = object()  # the first look counts: it was read a moment ago, and may have changed since

    def changed(self) -> bool:
        """One look. True when the file may hold something else than at the last change; also when it is gone for good."""
        before, self._seen = self._seen, self._look()
        if self._seen != before or self._seen == self._settled:
            return False
        self._settled = self._seen
        return True

    def _look(self) -> Signature:
        """Different whenever the content may be, and much cheaper than that: nobody sets the time of change back."""
        try:
            found = os.stat(self._path)  # noqa: PTH116  # follows the links, as opening does
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


@contextmanager
def watching(path: Path | None, changed: Callable[[], None]) -> Iterator[None]:
    """Calls `changed` on this loop after every change to the file, within about two seconds; without a path nothing happens.

    The looking is done by a daemon thread: a file system that hangs holds up neither the loop nor the end.
    """
    ended = threading.Event()
    if path is not None:
        looking = (path, asyncio.get_running_loop(), changed, ended)
        threading.Thread(target=_look, args=looking, name="configuration", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _look(path: Path, loop: asyncio.AbstractEventLoop, changed: Callable[[], None], ended: threading.Event) -> None:
    watch = Watch(path)
    while not ended.wait(LOOK_SECONDS):
        if watch.changed():
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(changed)
