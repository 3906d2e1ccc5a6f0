"""A YAML text as a tree in which every key and every value knows its place.

Owns what YAML we read: one document of mappings, lists and scalars, with anchors, aliases and merge keys within bounds.
Only `true` and `false` are booleans and only plain decimal numbers are numbers (the JSON schema of YAML 1.2, chapter 10.2);
`no`, `12:30:45`, `0777` and dates stay text. Knows no key of ours and expands nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import yaml

from exporter.config.findings import Findings, Place

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: 6 × faster

DEEPEST = 50
"""Levels of nesting that are read."""
_TOO_DEEP = f"nested more than {DEEPEST} levels deep"
MOST_VALUES = 200_000
"""Values of one document, those behind aliases counted each time; long texts count once more for every 100 characters."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}")
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")  # YAML 1.2, chapter 5.1
_TAG_STRING = "tag:yaml.org,2002:str"


class _Mark(Protocol):
    """A place as PyYAML and libyaml tell it, both numbers from 0."""

    line: int
    column: int


_Tagged: TypeAlias = yaml.ScalarEvent | yaml.CollectionStartEvent
ScalarValue: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One text. `plain` is whether it stood without quotes, so that `5` may be a number.

    `expanded`: something was put in for `${…}`, so it is never shown. `broken`: it has had its problem told already.
    """

    place: Place
    text: str = field(repr=False)
    plain: bool = True
    expanded: bool = False
    broken: bool = False

    @property
    def value(self) -> ScalarValue:
        if self.broken:
            return None
        if not self.plain:
            return self.text
        if self.text in _CONSTANTS:
            return _CONSTANTS[self.text]
        if _INTEGER.fullmatch(self.text):
            return int(self.text)
        return float(self.text) if _DECIMAL.fullmatch(self.text) else self.text

    @property
    def is_null(self) -> bool:
        return self.value is None


@dataclass(frozen=True, slots=True)
class SequenceNode:
    place: Place
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's own place, and its value."""

    place: Place
    node: "Node"


@dataclass(frozen=True, slots=True)
class MappingNode:
    place: Place
    entries: Mapping[str, Entry]

    def get(self, key: str) -> "Node | None":
        entry = self.entries.get(key)
        return None if entry is None else entry.node


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def as_python(node: Node) -> object:
    """The tree as dicts, lists and scalars, for pydantic."""
    if isinstance(node, MappingNode):
        return {key: as_python(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, SequenceNode):
        return [as_python(item) for item in node.items]
    return node.value


def below(path: str, key: str | int) -> str:
    """The dotted path of a key or of a list's item under `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def parse(content: bytes, source: str, findings: Findings) -> Node | None:
    """The tree of one YAML document, or None where nothing can be read; what is wrong is added to `findings`."""
    text = _decoded(content, source, findings)
    if text is None:
        return None
    try:
        return _Composer(source, findings, yaml.parse(text, Loader=LOADER)).document()
    except yaml.MarkedYAMLError as error:
        place, message = _explained(error, text, source)
    except _Stop as stop:
        place, message = stop.place, stop.message
    findings.add(place, "", message)
    return None


def _decoded(content: bytes, source: str, findings: Findings) -> str | None:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        findings.add(Place(source, 1, 1), "", "is UTF-16; save it as UTF-8")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = content[: error.start].decode("utf-8-sig")
        findings.add(_end_of(good, source), "", "not UTF-8 text from here; save the file as UTF-8")
        return None
    strange = _UNREADABLE.search(text)
    if strange:
        findings.add(
            _end_of(text[: strange.start()], source), "", "a control character; YAML is text, so remove it or write it as an escape"
        )
        return None
    return text


def _end_of(text: str, source: str) -> Place:
    return Place(source, text.count("\n") + 1, len(text) - text.rfind("\n"))


class _Stop(Exception):
    """Nothing after `place` can be made sense of."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


@dataclass(frozen=True, slots=True)
class _Built:
    """A finished node, the values in it (behind aliases too) and its levels."""

    node: Node
    size: int
    height: int


class _Composer:
    """Makes the tree from the parser's events; mutable, used for one document.

    PyYAML's own composer is not used: it keeps the last of duplicate keys, follows any tag, and recurses without a bound.
    """

    def __init__(self, source: str, findings: Findings, events: Iterator[yaml.Event]) -> None:
        self._source = source
        self._findings = findings
        self._events = events
        self._anchors: dict[str, _Built] = {}
        self._size = 0

    def document(self) -> Node | None:
        """The only document; None when there is none."""
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        root = self._build(next(self._events), "", 1).node
        next(self._events)  # the document's end
        after = next(self._events)
        if isinstance(after, yaml.DocumentStartEvent):
            self._findings.add(self._place(after), "", "a second document begins here; one file holds one configuration")
        return root

    def _place(self, event: yaml.Event) -> Place:
        line, column = _line_and_column(event.start_mark)
        return Place(self._source, line + 1, column + 1)

    def _build(self, event: yaml.Event, path: str, depth: int) -> _Built:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth)
        if depth > DEEPEST:
            raise _Stop(self._place(event), _TOO_DEEP)
        if isinstance(event, yaml.ScalarEvent):
            built = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            built = self._sequence(event, path, depth)
        elif isinstance(event, yaml.MappingStartEvent):
            built = self._mapping(event, path, depth)
        else:
            raise _Stop(self._place(event), "not YAML from here on")
        if event.anchor is not None:
            self._anchors[event.anchor] = built
        return built

    def _count(self, size: int, event: yaml.Event) -> None:
        self._size += size
        if self._size > MOST_VALUES:
            raise _Stop(self._place(event), f"more than {MOST_VALUES} values, those behind aliases counted each time")

    def _alias(self, event: yaml.AliasEvent, path: str, depth: int) -> _Built:
        built = self._anchors.get(event.anchor or "")
        if built is None:  # the name is not shown: an unquoted password may begin with `*`
            message = "`*` begins an alias, and no anchor of that name ends before it; a value that begins with `*` needs quotes"
            return _Built(self._broken(event, path, message), 1, 1)
        if depth + built.height > DEEPEST:
            raise _Stop(self._place(event), _TOO_DEEP)
        self._count(built.size, event)
        return built

    def _scalar(self, event: yaml.ScalarEvent, path: str) -> _Built:
        size = 1 + len(event.value) // 100
        self._count(size, event)
        plain = bool(event.implicit[0]) and not event.style  # libyaml's events say "", PyYAML's own None
        if self._is_tagged(event, (_TAG_STRING,), path):
            node = ScalarNode(self._place(event), "", broken=True)
        elif plain and event.anchor is not None and not event.value:
            node = self._broken(
                event, path, "`&` begins an anchor, and no value follows; a value that begins with `&` needs quotes"
            )
        else:
            node = ScalarNode(self._place(event), event.value, plain and event.tag is None)
        return _Built(node, size, 1)

    def _broken(self, event: yaml.Event, path: str, message: str) -> ScalarNode:
        self._findings.add(self._place(event), path, message)
        return ScalarNode(self._place(event), "", broken=True)

    def _is_tagged(self, event: _Tagged, allowed: tuple[str, ...], path: str) -> bool:
        """Whether it bears a tag that we do not follow. The tag is not shown: an unquoted password may begin with `!`."""
        if event.tag is None or event.tag in allowed or event.tag == "!":
            return False
        self._findings.add(
            self._place(event), path, "`!` begins a tag, and tags are not read; a value that begins with `!` needs quotes"
        )
        return True

    def _sequence(self, event: yaml.SequenceStartEvent, path: str, depth: int) -> _Built:
        self._count(1, event)
        self._is_tagged(event, ("tag:yaml.org,2002:seq",), path)
        built: list[_Built] = []
        for item in self._until(yaml.SequenceEndEvent):
            built.append(self._build(item, below(path, len(built)), depth + 1))
        node = SequenceNode(self._place(event), tuple(item.node for item in built))
        return _Built(node, 1 + sum(item.size for item in built), 1 + max((item.height for item in built), default=0))

    def _mapping(self, event: yaml.MappingStartEvent, path: str, depth: int) -> _Built:
        self._count(1, event)
        self._is_tagged(event, ("tag:yaml.org,2002:map",), path)
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        size, height = 1, 0
        for key_event in self._until(yaml.MappingEndEvent):
            key = self._key(key_event, path)
            value = self._build(next(self._events), below(path, key), depth + 1)
            size, height = size + value.size, max(height, value.height)
            entry = Entry(self._place(key_event), value.node)
            if key == "<<":
                merged = self._merge(entry, path, merged)
            elif key in entries:
                self._findings.add(entry.place, below(path, key), f"stands twice, first at {entries[key].place}; keep one")
            else:
                entries[key] = entry
        return _Built(
            MappingNode(self._place(event), entries | {k: e for k, e in merged.items() if k not in entries}), size, 1 + height
        )

    def _key(self, event: yaml.Event, path: str) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _Stop(self._place(event), "a key must be one word; a value that begins with `{`, `[` or `*` needs quotes")
        self._is_tagged(event, (_TAG_STRING,), path)
        if not event.value:
            self._findings.add(self._place(event), path, "a key is missing before the colon")
        return str(event.value)

    def _merge(self, entry: Entry, path: str, merged: dict[str, Entry]) -> dict[str, Entry]:
        """What `<<` brings in; of several the earlier wins (yaml.org/type/merge.html)."""
        nodes = entry.node.items if isinstance(entry.node, SequenceNode) else (entry.node,)
        for node in nodes:
            if isinstance(node, MappingNode):
                merged = {**node.entries, **merged}
            else:
                self._findings.add(node.place, below(path, "<<"), "`<<` merges a mapping, or a list of mappings, by alias")
        return merged

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event


_QUOTE_IT = 'quote it: `${…}` inside `{}` or `[]`, or beside a colon, is written "${NAME}"'

_SENTENCES: tuple[tuple[str, str], ...] = (
    # what libyaml says, what PyYAML's own parser says; our sentence
    (r"maximum nesting depth", _TOO_DEEP),  # libyaml 0.2.6 counts too, and reads ahead of us
    (r"unexpected end of stream|while scanning a quoted", "a quote is opened here and never closed"),
    (r"expected ',' or '\}'", "expected `,` or `}`: a `{` is not closed, or a value needs quotes"),
    (r"expected ',' or '\]'", "expected `,` or `]`: a `[` is not closed, or a value needs quotes"),
    (
        r"sequence entries are not allowed",
        "a list cannot begin on its key's line; write `[a, b]`, or each `- item` on a line of its own",
    ),
    (r"escape character", "unknown escape; inside \"…\" a backslash is written `\\\\`, inside '…' it needs none"),
    (r"tag handle|scanning a tag|parsing a tag", "a value that begins with `!` needs quotes"),
    (r"scanning an (?:alias|anchor)", "a value that begins with `*` or `&` needs quotes"),
    (r"directive", "a line that begins with `%` is a YAML directive; put the text in quotes"),
    (r"block scalar|chomping", "after `|` or `>` the text begins on the next line"),
    (r"expected '-' indicator|parsing a block collection", "not a list item; begin it with `-`, or check the indentation"),
    (
        r"expected key|<block end>",
        "cannot be read here; check the indentation, and that a value with a quote in it is quoted as a whole",
    ),
    (r"expected node content|expected the node content", "a value is missing here, or a `{` or `[` is never closed"),
    (r"expected ':'", "a `:` is missing after this key"),
)


def _explained(error: yaml.MarkedYAMLError, text: str, source: str) -> tuple[Place, str]:
    """Place and sentence for a syntax error. PyYAML's own text is never shown: it can hold a piece of the file."""
    said = f"{error.problem} {error.context or ''}"
    lines = text.splitlines()
    line, column = _line_and_column(error.problem_mark)
    opened = _line_and_column(error.context_mark)
    if "quoted" in said and "end of stream" in said:
        line, column = opened  # the end of the file says less than where the quote stands
    written = lines[line] if line < len(lines) else ""
    place = Place(source, line + 1, column + 1)
    above = lines[opened[0]] if opened[0] == line - 1 else ""
    if "${" in above + written and re.search(r"mapping values|expected ',' or", said):
        return place, _QUOTE_IT
    return place, _sentence(said, written, column)


def _line_and_column(mark: _Mark | None) -> tuple[int, int]:
    return (mark.line, mark.column) if mark else (0, 0)


def _sentence(said: str, line: str, column: int) -> str:
    if "cannot start any token" in said or "tab character" in said:
        character = line[column : column + 1]
        if character == "\t":
            return "a tab; indent with spaces"
        return f"a value cannot begin with {character} here; put it in quotes"
    if "mapping values" in said:
        if ": " in line[:column]:
            return "a colon inside a value; put the value in quotes"
        return "a key is not expected here; check the indentation, and the colon after the key above"
    return next((ours for theirs, ours in _SENTENCES if re.search(theirs, said)), "not YAML from here on")
