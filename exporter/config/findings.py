"""Collects what is wrong with a configuration, each with its place. Knows no rule and no format but its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from exporter.errors import Problem


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written: `line` and `column` of the file `source`, both from 1.

    In the environment `source` is the variable's name and both are 0: then it alone tells the place.
    """

    source: str
    line: int = 0
    column: int = 0

    @property
    def in_file(self) -> bool:
        return self.line > 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.in_file else self.source


class Findings:
    """The problems found so far, in any order; mutable, filled by one check from its first step to its last.

    One place and path has one problem, the first: what is found there later follows from it.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[Place, str], str] = {}

    def add(self, place: Place, path: str, message: str) -> None:
        """Records a problem; `message` is one line without any secret."""
        self._found.setdefault((place, path if place.in_file else ""), message)

    def __bool__(self) -> bool:
        return bool(self._found)

    def problems(self) -> tuple[Problem, ...]:
        """All of them in the order of the file."""
        ordered = sorted(self._found.items(), key=lambda item: (item[0][0].line, item[0][0].column))
        return tuple(Problem(str(place), path, message) for (place, path), message in ordered)


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """`; did you mean …?` for the nearest of `known`, or nothing when none is near."""
    near = get_close_matches(written, sorted(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def listed(names: Iterable[str]) -> str:
    """`a, b, c` for a message."""
    return ", ".join(names)
