"""Holds back lines that repeat, so that nothing that happens again and again can fill a disk. Knows no format, no stream.

Lines are alike when logger, template, probe and collector are the same. Of these the first few within a minute pass; the rest
is one line at the end of the minute, which says how many they were and what the last one said.
"""

import copy
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from exporter.log.lines import about_of, is_ours, sentence

MOST_ALIKE = 5
WINDOW_SECONDS = 60.0
MOST_KEYS = 1024
"""How many kinds of line are told apart at a time; what comes beyond is one kind. So no minute has more than six times as many
lines."""

Key = tuple[str, ...]

_BEYOND: Key = ("beyond",)
_TEMPLATE_CHARACTERS = 100


@dataclass(slots=True)
class _Window:
    """What was seen of one kind of line since its minute began; mutable."""

    until: float
    passed: int = 0
    held: int = 0
    last: logging.LogRecord | None = None


class Repeats:
    """Decides what is written; mutable. Not locked: a handler calls it under its own lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[Key, _Window] = {}  # in the order in which they end

    def admit(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """What is to be written now that this record has come: what ended before it, then itself unless it is held back."""
        out = self.ended()
        window = self._window(_key(record))
        if window.passed < MOST_ALIKE:
            window.passed += 1
            out.append(record)
        else:
            window.held += 1
            window.last = _plain(record)
        return out

    def ended(self) -> list[logging.LogRecord]:
        """A line for each kind that was held back and whose minute is over."""
        now = self._clock()
        over = []
        for key, window in self._windows.items():
            if window.until > now:
                break
            over.append(key)
        return _told(self._windows.pop(key) for key in over)

    def all(self) -> list[logging.LogRecord]:
        """The same of every kind, for the end."""
        windows = list(self._windows.values())
        self._windows.clear()
        return _told(windows)

    def _window(self, key: Key) -> _Window:
        if key not in self._windows and len(self._windows) >= MOST_KEYS:
            key = _BEYOND
        if key not in self._windows:
            self._windows[key] = _Window(self._clock() + WINDOW_SECONDS)
        return self._windows[key]


def _key(record: logging.LogRecord) -> Key:
    about = about_of(record)
    template = str(record.msg)
    if not is_ours(record) or template == "%s":  # text made beforehand
        template = sentence(record)[:_TEMPLATE_CHARACTERS]
    return (record.name, template, about.probe or "", about.collector or "")


def _plain(record: logging.LogRecord) -> logging.LogRecord:
    """The record with its text made: it is kept for a minute, and must not keep a traceback's frames alive for so long."""
    plain = copy.copy(record)
    plain.msg, plain.args, plain.exc_info, plain.stack_info = sentence(record), None, None, None
    return plain


def _told(windows: Iterable[_Window]) -> list[logging.LogRecord]:
    return [_summary(window.last, window.held) for window in windows if window.last is not None]


def _summary(last: logging.LogRecord, held: int) -> logging.LogRecord:
    """Its moment is now; what it is about is what the last one was about."""
    summary = logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, "", None, None)
    summary.msg = f"{held} more like this were held back, the last: {last.msg}"
    summary.about = replace(about_of(last), suppressed=held)
    return summary
