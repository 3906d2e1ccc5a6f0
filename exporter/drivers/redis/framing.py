"""Lets only whole, well-framed replies through to redis-py's parsers, and bounds what a server can make us hold.

redis-py would wait for ever for the end of a line that is no reply, hold a bulk string of any length, and descend into
arrays of any depth. Pure: knows no socket. RESP: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import re

ANSWER_BYTES = 4 * 1024 * 1024
"""The most bytes of one reply: an INFO with every command used is 30 KiB."""
MOST_VALUES = 100_000
"""The most values inside one reply: three bytes of a server become an object of sixty here."""
MOST_LEVELS = 16
"""How deep arrays, maps and sets may stand in each other."""
LONGEST_LINE_BYTES = 16 * 1024
LONGEST_NUMBER_BYTES = 512

_LINES = b"+-"
_BULKS = b"$!="
_AGGREGATES = b"*~>%"
_KINDS = frozenset(_LINES + _BULKS + _AGGREGATES + b":,#_(")
_PUSH = ord(">")
_MAP = ord("%")
_END = b"\r\n"
# each kind's line, as far as a parser would stumble over it; a null is -1 where RESP2 has one
_FORMS = {
    **dict.fromkeys(_LINES, re.compile(rb"[^\r\n]*")),
    **dict.fromkeys(_BULKS, re.compile(rb"-1|[0-9]{1,10}")),
    **dict.fromkeys(_AGGREGATES, re.compile(rb"-1|[0-9]{1,10}")),
    ord(":"): re.compile(rb"[+-]?[0-9]{1,19}"),
    ord("("): re.compile(rb"[+-]?[0-9]{1,500}"),
    ord(","): re.compile(rb"[+-]?(inf|nan|[0-9.]{1,400}([eE][+-]?[0-9]{1,5})?)"),
    ord("#"): re.compile(rb"[tf]"),
    ord("_"): re.compile(rb""),
}


class Misframed(Exception):
    """The bytes are no RESP, or more than is held; the text says which, without any of them."""


class Framing:
    """Follows what one server says; mutable.

    `answers` counts the whole replies let through so far, pushes (RESP3) not counted.
    """

    def __init__(self) -> None:
        self.answers = 0
        self._held = bytearray()
        self._at = 0  # where the next value begins
        self._needed = 0  # length of the held bytes with which it may be whole
        self._open: list[int] = []  # values still missing of each array that is open, outermost first
        self._values = 0
        self._is_push = False

    def whole(self, data: bytes) -> bytes:
        """The replies that have become whole with `data`; holds back the rest.

        Raises:
            Misframed: nothing that follows can be trusted.
        """
        self._held += data
        end = 0
        while self._needed <= len(self._held) > self._at and self._step():
            if not self._open:
                end = self._at
                self.answers += not self._is_push
                self._values = 0
        if len(self._held) - end > ANSWER_BYTES:
            raise _too_much()
        whole = bytes(self._held[:end])
        del self._held[:end]
        self._at -= end
        self._needed = max(0, self._needed - end)
        return whole

    def _step(self) -> bool:
        """Walks over one value, or over the head of an array; False when it is not all there."""
        kind = self._held[self._at]
        line = self._line(kind)
        if line is None:
            return False
        after = self._at + 1 + len(line) + len(_END)
        count = int(line) if kind in _BULKS or kind in _AGGREGATES else 0
        if kind in _BULKS and count >= 0:
            after += count + len(_END)
            if not self._is_there(after):
                return False
        self._count(kind, count)
        self._at = after
        return True

    def _line(self, kind: int) -> bytes | None:
        """What stands between the kind and the end of its line; None while the end is missing."""
        if kind not in _KINDS:
            raise Misframed("a reply of unknown type")
        longest = LONGEST_LINE_BYTES if kind in _LINES else LONGEST_NUMBER_BYTES
        end = self._held.find(_END, self._at, self._at + longest)
        if end < 0:
            if len(self._held) - self._at >= longest:
                raise Misframed("a line without end")
            self._needed = len(self._held) + 1
            return None
        line = bytes(self._held[self._at + 1 : end])
        if _FORMS[kind].fullmatch(line) is None:
            raise Misframed("a reply that cannot be read")
        return line

    def _is_there(self, after: int) -> bool:
        """Whether the bulk string that ends before `after` is held whole, its end included."""
        if after - self._at > ANSWER_BYTES:
            raise _too_much()
        if after > len(self._held):
            self._needed = after
            return False
        if self._held[after - len(_END) : after] != _END:
            raise Misframed("a string without end")
        return True

    def _count(self, kind: int, count: int) -> None:
        """Takes the value off the array it stands in, and opens its own if it has one."""
        if self._open:
            self._open[-1] -= 1
        else:
            self._is_push = kind == _PUSH
        self._values += 1
        if kind in _AGGREGATES and count > 0:
            self._open.append(count * 2 if kind == _MAP else count)
        if self._values > MOST_VALUES or len(self._open) > MOST_LEVELS:
            raise _too_much()
        while self._open and self._open[-1] == 0:
            self._open.pop()


def _too_much() -> Misframed:
    return Misframed(f"a reply above {ANSWER_BYTES // (1024 * 1024)} MiB, {MOST_VALUES} values or {MOST_LEVELS} levels")
