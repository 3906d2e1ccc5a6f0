"""Log lines: text for a terminal, JSON for a collector; every line passes the redaction, and none repeats without end.

Configures the standard library's logging, owns no logger and knows nothing of what is logged. Whoever logs says with
`extra=about(…)` which probe a line is about.
"""

import logging
import sys
from typing import Literal, TextIO

from exporter.log.fields import about
from exporter.log.lines import JsonFormat, TextFormat, is_ours
from exporter.log.repeats import Repeats
from exporter.log.strays import catch_strays
from exporter.secret import Redactor

Format = Literal["auto", "text", "json"]


class Sparing(logging.StreamHandler[TextIO]):
    """Writes what `Repeats` admits. Libraries are heard from WARNING on: what they say below that may be what they send."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._repeats = Repeats()
        self.addFilter(lambda record: is_ours(record) or record.levelno >= logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        for line in self._repeats.admit(record):
            super().emit(line)

    def tell_held_back(self, *, at_the_end: bool) -> None:
        """Writes what is due of lines held back; at the end, whatever there is."""
        self.acquire()
        try:
            for line in self._repeats.all() if at_the_end else self._repeats.ended():
                super().emit(line)
        finally:
            self.release()


def configure(form: Format, level: str, redactor: Redactor, stream: TextIO | None = None) -> None:
    """Sends everything at `level` and above to `stream`, stderr where none is given, nowhere where that is closed.

    `auto` is text on a terminal, else JSON. May be called again at any time.
    """
    target = stream or sys.stderr
    text = form == "text" or (form == "auto" and target is not None and target.isatty())
    handler: logging.Handler = logging.NullHandler() if target is None else _handler(target)
    handler.setFormatter(TextFormat(redactor) if text else JsonFormat(redactor))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # else a line that cannot be written is printed with its raw arguments


def _handler(stream: TextIO) -> Sparing:
    """The one that is there, after a reload: it knows what it has held back."""
    there = (handler for handler in logging.getLogger().handlers if isinstance(handler, Sparing) and handler.stream is stream)
    return next(there, None) or Sparing(stream)


def tell_held_back(*, at_the_end: bool = False) -> None:
    """Writes what is due of lines that were held back; called now and then, so that it comes in time with nothing else to say."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Sparing):
            handler.tell_held_back(at_the_end=at_the_end)


__all__ = ["Format", "about", "catch_strays", "configure", "tell_held_back"]
