"""Which metrics, labels and groupings a PromQL expression names. Knows no metric and no file.

A tokenizer and no parser: that an expression is well-formed is for Prometheus to say. Lexis as in Prometheus'
promql/parser/lex.go (2.42); Grafana's variables stand where the expression was written for a dashboard.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(
    r"""
    (?P<skip>     \s+ | \#[^\n]* )
  | (?P<string>   "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*` )
  | (?P<range>    \[ [^\]]* \] )
  | (?P<variable> \$\w+ | \$\{[^}]+\} )
  | (?P<number>   (?:0x[0-9a-f]+ | \d+(?:\.\d*)?(?:e[+-]?\d+)? | \.\d+)(?:ms|[smhdwy])?(?:\d+(?:ms|[smhdwy]))* )
  | (?P<word>     [a-zA-Z_:][\w:]* )
  | (?P<sign>     =~ | !~ | == | != | <= | >= | [-+*/%^<>=(){},@:] )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GROUPING = frozenset({"by", "without"})
_MATCHING = frozenset({"on", "ignoring", "group_left", "group_right"})
_KEYWORDS = frozenset({"and", "or", "unless", "atan2", "bool", "offset", "start", "end", "inf", "nan"})


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric, and the labels that its matchers name."""

    metric: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Labels of a by, on or group_left clause, and the selectors that it speaks of: one of them must have each label."""

    labels: frozenset[str]
    of: tuple[Selector, ...]


@dataclass(frozen=True, slots=True)
class Uses:
    selectors: tuple[Selector, ...]
    groupings: tuple[Grouping, ...]


def uses(expression: str) -> Uses:
    """What the expression names. Raises ValueError where it is no PromQL, or a selector has no name."""
    tokens = _tokens(expression)
    partner = _partners(tokens)
    selectors = dict(_selectors(tokens, partner))
    groupings = tuple(
        Grouping(_names(tokens, index + 1, partner), tuple(s for at, s in selectors.items() if at in scope))
        for index, scope in _groupings(tokens, partner)
    )
    return Uses(tuple(selectors.values()), groupings)


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"no PromQL from {expression[at : at + 20]!r} on")
        if match.lastgroup != "skip":
            tokens.append(match.group())
        at = match.end()
    return tokens


def _partners(tokens: list[str]) -> dict[int, int]:
    """Where each bracket is closed, and opened."""
    partner, opened = {}, []
    for index, token in enumerate(tokens):
        if token in ("(", "{"):
            opened.append(index)
        elif token in (")", "}"):
            if not opened:
                raise ValueError(f"{token!r} closes nothing")
            partner[index] = opened[-1]
            partner[opened.pop()] = index
    if opened:
        raise ValueError(f"{tokens[opened[-1]]!r} is never closed")
    return partner


def _selectors(tokens: list[str], partner: dict[int, int]) -> Iterator[tuple[int, Selector]]:
    index = 0
    while index < len(tokens):
        token, after = tokens[index], tokens[index + 1] if index + 1 < len(tokens) else ""
        word = token.lower()
        if word in _GROUPING | _MATCHING:
            index = partner[index + 1] if after == "(" else index
        elif token == "{":
            raise ValueError("a selector without a name: write the metric before its labels")
        elif re.match(r"[a-z_:]", word) and word not in _KEYWORDS and after != "(" and after.lower() not in _GROUPING:
            end = partner[index + 1] if after == "{" else index
            yield index, Selector(token, _matched(tokens[index + 1 : end]))
            index = end
        index += 1


def _matched(tokens: list[str]) -> frozenset[str]:
    """The labels named between the braces of a selector."""
    return frozenset(name for name, sign in pairwise(tokens) if sign in ("=", "!=", "=~", "!~"))


def _groupings(tokens: list[str], partner: dict[int, int]) -> Iterator[tuple[int, range]]:
    """Each clause, with the tokens it speaks of: what its aggregation stands before or behind, for others the whole."""
    for index, token in enumerate(tokens):
        word = token.lower()
        if word not in _GROUPING | _MATCHING or tokens[index + 1 : index + 2] != ["("]:
            continue
        behind = partner[index + 1] + 1
        if word in _MATCHING:
            yield index, range(len(tokens))
        elif tokens[behind : behind + 1] == ["("]:
            yield index, range(behind, partner[behind])
        else:
            yield index, range(partner[index - 1], index)


def _names(tokens: list[str], opened: int, partner: dict[int, int]) -> frozenset[str]:
    return frozenset(token for token in tokens[opened + 1 : partner[opened]] if token != ",")
