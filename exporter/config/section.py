"""One mapping of the configuration as it is written, with what `defaults` lies beneath it. Knows places, no rule."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from exporter.config.document import Entry, MappingNode, Node, ScalarNode, SequenceNode, below
from exporter.config.findings import Place
from exporter.probes.fields import parse_duration


@dataclass(frozen=True, slots=True)
class Section:
    """`place` is that of the mapping's own key. An entry of `defaults` holds unless the mapping has one of the same key."""

    path: str
    place: Place
    own: Mapping[str, Entry]
    defaults: "Section | None" = None

    @property
    def entries(self) -> dict[str, Entry]:
        """What holds: the defaults' entries, and the own ones over them."""
        return {**self.defaults.entries, **self.own} if self.defaults else dict(self.own)

    def entry(self, key: str) -> Entry | None:
        found = self.own.get(key)
        return self.defaults.entry(key) if found is None and self.defaults else found

    def node(self, key: str) -> Node | None:
        entry = self.entry(key)
        return None if entry is None else entry.node

    def path_of(self, key: str) -> str:
        """The path of the entry that holds, which may be `defaults.key`."""
        inherited = self.defaults is not None and key not in self.own and self.defaults.entry(key) is not None
        return self.defaults.path_of(key) if self.defaults and inherited else below(self.path, key)

    def place_of(self, key: str) -> Place:
        """Where the value of `key` stands; the section's own place when there is none."""
        node = self.node(key)
        return self.place if node is None else node.place

    def text(self, key: str) -> str | None:
        """The value of `key` when it is text."""
        node = self.node(key)
        value = node.value if isinstance(node, ScalarNode) else None
        return value if isinstance(value, str) else None

    def whole(self, key: str, absent: int | None) -> int | None:
        """The value of `key` as a whole number, `absent` where nothing is written, None where it cannot be read."""
        node = self.node(key)
        if isinstance(node, ScalarNode) and re.fullmatch(r"[0-9]{1,18}", node.text):
            return int(node.text)
        return absent if _is_absent(node) else None

    def seconds(self, key: str, absent: float | None) -> float | None:
        """The value of `key` as a duration, `absent` where nothing is written, None where it cannot be read."""
        if _is_absent(self.node(key)):
            return absent
        try:
            return parse_duration(self.text(key))
        except ValueError:
            return None

    def section(self, key: str) -> "Section | None":
        """The mapping under `key`, None when none is there."""
        entry = self.entry(key)
        if entry is None or not isinstance(entry.node, MappingNode):
            return None
        return Section(self.path_of(key), entry.place, entry.node.entries)

    def sections(self, key: str) -> Iterator[tuple[str, "Section"]]:
        """The mappings in the mapping under `key`, each with its name."""
        parent = self.section(key)
        for name in parent.own if parent else ():
            child = parent.section(name) if parent else None
            if child is not None:
                yield name, child

    def texts(self, key: str) -> Iterator[tuple[str, ScalarNode, str]]:
        """The texts of the list under `key`, each with its node and its path."""
        node = self.node(key)
        for index, item in enumerate(node.items if isinstance(node, SequenceNode) else ()):
            if isinstance(item, ScalarNode) and isinstance(item.value, str):
                yield item.value, item, below(self.path_of(key), index)


def _is_absent(node: Node | None) -> bool:
    """Whether nothing is written: a key without a value counts as none."""
    return node is None or (isinstance(node, ScalarNode) and node.is_null and not node.broken)
