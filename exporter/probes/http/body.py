"""Decompresses a body, within bounds, and searches it, within a budget of processor time. Knows no connection."""

import re
import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from exporter.drivers.http import BODY_LIMIT_BYTES, Answer

SEARCH_SECONDS = 0.1
"""Processor time after which a search is given up. It is the event loop's, and `re` notices late when single steps are long:
the worst seen, `.*x` in a MiB without line break, held on for 2.2 s."""

_ANY_ZLIB = 32 + zlib.MAX_WBITS  # gzip or zlib, told apart by their header
_RAW_DEFLATE = -zlib.MAX_WBITS  # what some servers send as "deflate"
_CODINGS = {"gzip": (_ANY_ZLIB,), "x-gzip": (_ANY_ZLIB,), "deflate": (_ANY_ZLIB, _RAW_DEFLATE)}


_ANYTHING = ".*"


class SearchTooSlow(Exception):
    """A pattern was given up on; it backtracks too much on this text."""


@dataclass(frozen=True, slots=True)
class Body:
    """`text` is the decoded body or as much of its beginning as was read, None when its content coding is unknown or broken;
    `length` its bytes after decompression, None when that is not the whole."""

    text: str | None
    length: int | None

    def contains(self, pattern: re.Pattern[str]) -> bool:
        """Whether the pattern is found in the text.

        Raises:
            SearchTooSlow: it took more than SEARCH_SECONDS.
        """
        with _processor_time(SEARCH_SECONDS):
            return pattern.search(self.text or "") is not None


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, without a `.*` in front, as blackbox's users write it: it changes nothing of whether something is found, but
    without a match it makes `re` look from every character to the end of its line."""
    shorter = pattern
    while shorter.startswith(_ANYTHING) and shorter[2:3] not in ("", "?", "+", "{") and "|" not in shorter:
        shorter = shorter.removeprefix(_ANYTHING)
    return re.compile(shorter)


def read_body(answer: Answer) -> Body:
    """The body of an answer, at most BODY_LIMIT_BYTES of it, however much a small compressed body may stand for."""
    coding = answer.content_encoding
    plain, whole = (answer.body, True) if coding in ("", "identity") else _decompressed(answer.body, coding)
    if plain is None:
        return Body(None, None)
    return Body(_text(plain, answer.charset), len(plain) if whole and answer.complete else None)


def _decompressed(data: bytes, coding: str) -> tuple[bytes | None, bool]:
    """The beginning of what `data` stands for, and whether that is all."""
    for window in _CODINGS.get(coding, ()):
        decompressor = zlib.decompressobj(window)
        try:
            plain = decompressor.decompress(data, BODY_LIMIT_BYTES)
        except zlib.error:
            continue
        return plain, decompressor.eof and not decompressor.unused_data
    return None, False


def _text(data: bytes, charset: str | None) -> str:
    try:
        return data.decode(charset or "utf-8", errors="replace")
    except LookupError:  # the server names a charset that does not exist
        return data.decode("utf-8", errors="replace")


@contextmanager
def _processor_time(seconds: float) -> Iterator[None]:
    """Raises SearchTooSlow in the block once this process has used so much processor time.

    `re` holds the interpreter's lock and cannot be cancelled, but it does look for signals (PyErr_CheckSignals in _sre), which
    only the main thread receives. There the loop runs; a block in another thread has no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    armed = True

    def expire(_number: int, _frame: FrameType | None) -> None:
        if armed:
            raise SearchTooSlow

    signal.signal(signal.SIGVTALRM, expire)  # it stays: a late signal must find a handler, for the default ends the process
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
