"""Log lines: text for a terminal, JSON for a collector; every line passes the redaction. Configures the standard library's
logging, owns no logger and knows nothing of what is logged."""

import json
import logging
import sys
import time
from typing import Literal, TextIO

from exporter.secret import Redactor, one_line

LONGEST = 2000
"""Characters of a text line's message."""

Format = Literal["auto", "text", "json"]


class _Clean(logging.Formatter):
    """A line is built first and redacted whole, so no argument can slip through. Tracebacks are never written."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def moment(self, record: logging.LogRecord) -> str:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"

    def message(self, record: logging.LogRecord) -> str:
        return self._redactor.clean(record.getMessage())


class TextFormat(_Clean):
    """`2026-11-24T04:05:06.123Z WARNING message`."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.moment(record)} {record.levelname:<7} {one_line(self.message(record), LONGEST)}"


class JsonFormat(_Clean):
    """One object a line: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
        }
        return json.dumps(line, ensure_ascii=False)


def configure(form: Format, level: str, redactor: Redactor, stream: TextIO | None = None) -> None:
    """Sends everything at `level` and above to `stream`, stderr where none is given, nowhere where that is closed.

    `auto` is text on a terminal, else JSON.
    """
    target = stream or sys.stderr
    text = form == "text" or (form == "auto" and target is not None and target.isatty())
    handler: logging.Handler = logging.NullHandler() if target is None else logging.StreamHandler(target)
    handler.setFormatter(TextFormat(redactor) if text else JsonFormat(redactor))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # else a line that cannot be formatted is printed with its raw arguments
    logging.getLogger("asyncio").setLevel(logging.WARNING)
