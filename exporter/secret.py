"""Values that never print, and the redaction of text that may hold one. Knows nothing of where secrets come from."""

import json
import re
from collections import deque
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "…"


class Secret:
    """A string that shows as `…` in every format; `reveal()` gives the value to the driver that needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")


# userinfo of a URL: everything between `//` and the last `@` before the path
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
# the query and fragment of a URL, and a query that stands alone
_URL_QUERY = re.compile(r"(://[^\s?#'\"<>]*)[?#][^\s'\"<>]*")
_QUERY = re.compile(r"(?<=[^\s?])\?[^\s'\"<>]*=[^\s'\"<>]*")
# atomic: a word is tried once, from its beginning. A long one that a server sends would else hold the loop for minutes
_KEY = r"(?>[\w-]*?(?:password|passwd|pwd|secret|token|authorization|credential|api[-_]?key)[\w-]*+)"
_VALUE = r"\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)|(?:bearer|basic)\s+\S+|\S+"
_ASSIGNED = re.compile(rf"(?i)(?<![\w-])({_KEY}[\"']?\s*+[=:]\s*+)({_VALUE})")
_SHORTEST = 4  # a shorter known secret would blank out ordinary words
_SHORTEST_PIECE = 8
_MANGLED = re.compile(r"[^ -~]|['\"\\]")  # what servers escape or replace in many ways, and where literals are taken out
_MOST = 4096  # characters that are looked at; no message that leaves this process is as long


_GENERATIONS = 20
"""Sets of secrets that are remembered, the present one among them."""


class Redactor:
    """Blanks known secrets, URL userinfo, query strings and `password=…` in text. Mutable: it learns."""

    __slots__ = ("_generations", "_known", "_longest")

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._generations: deque[frozenset[str]] = deque(maxlen=_GENERATIONS)
        self._known: re.Pattern[str] | None = None
        self._longest = 0
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Knows these too from now on; those before may still stand in a message of a run that has begun with them.

        What was learned many reloads ago is forgotten: passwords that rotate must not make each message dearer for ever.
        """
        forms = frozenset(form for secret in secrets for form in _forms(secret.reveal()) if len(form) >= _SHORTEST)
        if forms - frozenset().union(*self._generations):
            self._generations.append(forms)
            longest_first = sorted(frozenset().union(*self._generations), key=len, reverse=True)
            self._longest = len(longest_first[0])
            self._known = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def clean(self, text: str) -> str:
        """The text with everything secret replaced by `…`; of one that is longer than any message its beginning."""
        whole = len(text) <= _MOST
        if self._known is not None:
            text = self._known.sub(HIDDEN, text if whole else text[: _MOST + self._longest])
        if not whole:  # what the cut may have split goes: a known secret, a word of any other
            text = f"{text[: max(0, min(_MOST, len(text) - self._longest))].rpartition(' ')[0]} {HIDDEN}"
        text = _USERINFO.sub(f"{HIDDEN}@", text)
        text = _URL_QUERY.sub(rf"\1?{HIDDEN}", text)
        text = _QUERY.sub(f"?{HIDDEN}", text)
        return _ASSIGNED.sub(rf"\1{HIDDEN}", text)


def _forms(value: str) -> Iterable[str]:
    """What a secret looks like where a driver or a server has quoted it: each of its lines, percent-encoded, in JSON, in Python."""
    for part in (value, *value.splitlines()):
        yield from (part, quote(part, safe=""), quote(part), quote_plus(part), json.dumps(part)[1:-1], repr(part)[1:-1])
        yield from filter(_tells_much, _MANGLED.split(part))


def _tells_much(piece: str) -> bool:
    """Whether a piece of a secret is one itself; without a digit it may be an ordinary word, which messages need."""
    return len(piece) >= _SHORTEST_PIECE and any(character.isdigit() for character in piece)


_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_UNCLOSED = re.compile(r"['\"].*", re.DOTALL)


def without_literals(text: str) -> str:
    """A server's message with quoted literals replaced by `…`: they can hold a row (`Key (email)=('a@b')`).

    Of one that is longer than any message the beginning.
    """
    if len(text) <= _MOST:
        return _QUOTED.sub(HIDDEN, text)
    return _UNCLOSED.sub(HIDDEN, _QUOTED.sub(HIDDEN, text[:_MOST]))


def one_line(text: str, length: int) -> str:
    """The text on one line, control characters gone, at most `length` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= length else line[: length - 1] + HIDDEN
