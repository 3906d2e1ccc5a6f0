"""Tells from a thread of its own where the event loop is stuck, while it is stuck. Knows nothing of what runs on the loop.

Python code that blocks, and C code that lets other threads run meanwhile, is found by this thread and told through the log.
C code that keeps the interpreter to itself stops this thread too: for that `faulthandler` has a thread that needs no
interpreter; it writes its own plain lines to stderr. This thread puts it off as long as it runs itself, so only one of the two
speaks. Both name files, lines and functions, never values or source.
"""

import faulthandler
import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from traceback import walk_stack
from types import FrameType
from typing import Self, TextIO

from exporter.log import about

LIMIT_SECONDS = 30.0
LOOKS_PER_LIMIT = 30
MOST_FRAMES = 25
MOST_FRAMES_OF_OTHERS = 4

log = logging.getLogger(__name__)


class Watchdog:
    """Watches the thread that makes it. The loop calls `fed` about once a second; use as a context manager."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, last_resort: TextIO | None = None) -> None:
        self._clock = clock
        self._last_resort = last_resort
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._ended = threading.Event()
        self._fed = self._looked = self._resumed = clock()
        self._stuck_since: float | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()  # and nobody waits: the thread may be waiting for a terminal that takes nothing

    def fed(self) -> None:
        """The loop turns."""
        self._fed = self._clock()

    def look(self) -> None:
        """Judges now; called by the thread, thirty times within the limit."""
        now, fed = self._clock(), self._fed
        missed, self._looked = now - self._looked, now
        if missed >= LIMIT_SECONDS / 3:
            self._resumed = now  # whatever kept this thread from looking kept the loop too
        if missed >= LIMIT_SECONDS:
            log.error("no thread has run for %.0fs: the process was paused, or C code kept the interpreter", missed)
        since = max(fed, self._resumed)
        if self._stuck_since is None and now - since >= LIMIT_SECONDS:
            self._stuck_since = since
            self._tell(now - since)
        elif self._stuck_since is not None and fed > self._stuck_since:
            lasted = fed - self._stuck_since
            log.warning("the event loop turns again after %.0fs", lasted, extra=about(duration_seconds=lasted))
            self._stuck_since = None

    def _watch(self) -> None:
        while True:
            if self._last_resort is not None:
                faulthandler.dump_traceback_later(LIMIT_SECONDS, file=self._last_resort)
            if self._ended.wait(LIMIT_SECONDS / LOOKS_PER_LIMIT):
                break
            self.look()
        if self._last_resort is not None:
            faulthandler.cancel_dump_traceback_later()

    def _tell(self, seconds: float) -> None:
        frames = sys._current_frames()  # noqa: SLF001  # documented, for exactly this
        stuck = frames.get(self._watched)
        place = stack(stuck, MOST_FRAMES) if stuck is not None else "a thread that has ended"
        log.error("the event loop has not turned for %.0fs: %s", seconds, place, extra=about(duration_seconds=seconds))
        others = {ident: frame for ident, frame in frames.items() if ident not in (self._watched, threading.get_ident())}
        if others:
            log.error("meanwhile in other threads: %s", _together(others))


def stack(frame: FrameType, most: int) -> str:
    """`asyncio/events.py:84 Handle._run < …`, the innermost of its frames first."""
    frames = islice(walk_stack(frame), most)
    return " < ".join(f"{_short(found.f_code.co_filename)}:{line} {found.f_code.co_qualname}" for found, line in frames)


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def _together(frames: dict[int, FrameType]) -> str:
    """Threads that stand at the same place in one piece: a hundred lookups may hang alike."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    alike: dict[str, list[str]] = defaultdict(list)
    for ident, frame in frames.items():
        alike[stack(frame, MOST_FRAMES_OF_OTHERS)].append(names.get(ident, "unnamed"))
    return "; ".join(f"{found[0]}{f' and {len(found) - 1} more' if found[1:] else ''}: {place}" for place, found in alike.items())


def last_resort() -> TextIO | None:
    """Stderr where it is a file that can be written without the interpreter; None where it is closed."""
    try:
        return sys.stderr if sys.stderr is not None and sys.stderr.fileno() >= 0 else None
    except (OSError, ValueError):
        return None
