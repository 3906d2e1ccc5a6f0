"""From a record to its line: what it says, in text or in JSON, always redacted, bounded and without a traceback.

Knows nothing of where lines go.
"""

import json
import logging
import time
from pathlib import Path
from traceback import walk_tb

from exporter.log.fields import About
from exporter.secret import Redactor, one_line, without_literals

LONGEST = 2000
"""Characters of a line's message."""

NOTHING = About()


def is_ours(record: logging.LogRecord) -> bool:
    """Whether our code says it; a library's words may hold anything."""
    return record.name.partition(".")[0] == "exporter"


def about_of(record: logging.LogRecord) -> About:
    given = getattr(record, "about", NOTHING)
    return given if isinstance(given, About) else NOTHING


def sentence(record: logging.LogRecord) -> str:
    """What the record says, not yet redacted; an exception is told by its class and place, never by its text.

    Of a library's text the first line, without what it quotes: asyncio adds the repr of tasks and of what they raised.
    """
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):
        text = f"{record.msg} (its arguments do not fit)"
    if not is_ours(record):
        text = without_literals(next(iter(text.splitlines()), ""))
    return text + _raised(record)


def _raised(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    kind, _, trace = record.exc_info
    places = [f"{Path(frame.f_code.co_filename).name}:{line}" for frame, line in walk_tb(trace)]
    return f": {kind.__name__}{f' at {places[-1]}' if places else ''}"


class _Clean(logging.Formatter):
    """A line is built first and redacted whole, so no argument can slip through."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def moment(self, record: logging.LogRecord) -> str:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"

    def message(self, record: logging.LogRecord) -> str:
        return one_line(self._redactor.clean(sentence(record)), LONGEST)


class TextFormat(_Clean):
    """`2026-11-24T04:05:06.123Z WARNING db: message`."""

    def format(self, record: logging.LogRecord) -> str:
        subject = about_of(record).subject
        return f"{self.moment(record)} {record.levelname:<7} {subject}{': ' if subject else ''}{self.message(record)}"


class JsonFormat(_Clean):
    """One object a line: time, level, logger, message; where they apply probe, collector, status, reason, duration (seconds)
    and suppressed. Keys are only ever added."""

    def format(self, record: logging.LogRecord) -> str:
        about = about_of(record)
        fields = {
            "time": self.moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
            "probe": about.probe,
            "collector": about.collector,
            "status": about.status,
            "reason": about.reason,
            "duration": None if about.duration_seconds is None else round(about.duration_seconds, 6),
            "suppressed": about.suppressed,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None}, ensure_ascii=False)
