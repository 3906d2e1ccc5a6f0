"""Which form of an answer a client wants: RFC 9110 12.5.1 (Accept) and 12.5.3 (Accept-Encoding), without ever failing.

Pure. A header that makes no sense is read as if the senseless part were not there; what then fits nothing gets the default.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TypeVar

_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_QUALITY = re.compile(r"(?:[01]?\.\d{0,10}|[01])")  # `.2` without its zero is what Java's HttpURLConnection sends
_ANY = "*"

T = TypeVar("T")


class Form(StrEnum):
    """How a health body can be written; the values are those of `?format=`."""

    JSON = "json"
    TEXT = "text"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class Offer:
    """A media type we can answer with. A range that asks for another value of one of `parameters` does not mean this offer."""

    type: str
    subtype: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Range:
    """One element of an Accept header."""

    type: str
    subtype: str
    parameters: Mapping[str, str]
    quality: float

    def matches(self, offer: Offer) -> bool:
        return (
            self.type in (_ANY, offer.type)
            and self.subtype in (_ANY, offer.subtype)
            and all(self.parameters.get(name, value) == value for name, value in offer.parameters.items())
        )

    @property
    def precision(self) -> tuple[bool, bool, int]:
        """The more precise of two matching ranges decides (RFC 9110 12.5.1)."""
        return (self.type != _ANY, self.subtype != _ANY, len(self.parameters))


_FORMS = {
    Form.JSON: Offer("application", "json", {}),
    Form.TEXT: Offer("text", "plain", {}),
    Form.HTML: Offer("text", "html", {}),
}
# Versions by allow-list. Prometheus up to 2.34 may ask for OpenMetrics 0.0.1 alone, and 3.x also for text 1.0.0: neither is
# what we write, and both name text 0.0.4 beside it. `escaping=` and `charset=` make no difference: our names are plain ASCII.
_EXPOSITIONS = {
    False: Offer("text", "plain", {"version": "0.0.4"}),
    True: Offer("application", "openmetrics-text", {"version": "1.0.0"}),
}


@lru_cache(maxsize=64)
def health_form(accept: str) -> Form:
    """JSON for `*/*`, an empty header and everything unknown; HTML for browsers; text for `text/plain`."""
    return _best(_ranges(accept), _FORMS)


@lru_cache(maxsize=64)
def wants_openmetrics(accept: str) -> bool:
    """True for OpenMetrics 1.0.0, False for text 0.0.4, which is also the answer to `*/*` and everything unknown."""
    return _best(_ranges(accept), _EXPOSITIONS)


def _best(ranges: Sequence[_Range], offers: Mapping[T, Offer]) -> T:
    """The offer of the highest quality; of equals the one asked for first, then the one offered first, which is the default."""

    def rank(offer: Offer) -> tuple[float, int]:
        matching = [place for place, wanted in enumerate(ranges) if wanted.matches(offer)]
        if not matching:
            return (0.0, -len(ranges))
        place = max(matching, key=lambda place: ranges[place].precision)
        return (ranges[place].quality, -place)

    best = max(offers, key=lambda name: rank(offers[name]))
    return best if rank(offers[best])[0] > 0 else next(iter(offers))


def _ranges(header: str) -> list[_Range]:
    found = (_range(element) for element in _ELEMENT.findall(header))
    return [wanted for wanted in found if wanted is not None]


def _range(element: str) -> _Range | None:
    name, *parameters = _PARAMETER.findall(element) or [""]
    kind, slash, subtype = name.strip().lower().partition("/")
    if kind == _ANY and not slash:
        subtype = _ANY  # a lone `*`, as Java sends it
    named = dict(_parameter(parameter) for parameter in parameters)
    quality = _quality(named.pop("q", "1"))
    return _Range(kind, subtype, named, quality) if kind and subtype and quality is not None else None


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip().strip('"').lower()


def _quality(text: str) -> float | None:
    """None where it is no quality at all; such an element is left out."""
    return min(float(text), 1.0) if _QUALITY.fullmatch(text) and text != "." else None


@dataclass(frozen=True, slots=True)
class Codings:
    """Which content codings a client wants: `gzip` before identity, and whether `identity` is acceptable at all."""

    gzip: bool
    identity: bool


@lru_cache(maxsize=64)
def codings(accept_encoding: str) -> Codings:
    """An empty header means identity. Where nothing we have is acceptable, identity is sent (RFC 9110 12.5.3 allows it)."""
    asked = {_coding(element): _coding_quality(element) for element in _ELEMENT.findall(accept_encoding)}
    rest = asked.get(_ANY, 0.0)
    gzip = asked.get("gzip", asked.get("x-gzip", rest))
    # identity that is not named is acceptable unless `*;q=0`, but less wanted than anything that is
    identity = asked.get("identity", rest if _ANY in asked else 0.001)
    return Codings(gzip=gzip > 0 and gzip >= identity, identity=identity > 0)


def _coding(element: str) -> str:
    return element.partition(";")[0].strip().lower()


def _coding_quality(element: str) -> float:
    name, value = _parameter(element.partition(";")[2])
    return (_quality(value) or 0.0) if name == "q" else 1.0
