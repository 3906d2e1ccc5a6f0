"""Puts values in for `${…}` in a parsed tree: variables, their `X_FILE` twins, and files.

Works on finished scalars, so what comes in can never change the shape of the document. Keys are left as written. Knows no
key of ours; runs again from the start on every load, so a changed file is read anew.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.config.document import Entry, MappingNode, Node, ScalarNode, SequenceNode, below
from exporter.config.findings import Findings
from exporter.secret import Secret, one_line

LARGEST_BYTES = 65536
"""The most of one file that becomes a value."""
DEEPEST = 5
"""Levels of `${A:-${B}}`."""

_FORMS = "`${NAME}`, `${NAME:-default}`, `${NAME:?message}` or `${file:/path}`"
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:[-?])(.*))?", re.DOTALL)
_MARK = re.compile(r"\$\$|\$\{")
_BRACE = re.compile(r"\$\{|\}")


class Unexpandable(Exception):
    """A `${…}` has no value; the text is a sentence for the user, without any value in it."""


@dataclass(slots=True)
class Sources:
    """The environment, and the files that values were read from; mutable, it notes every file and what it held.

    `files` are the paths read since it was last cleared; `secrets` everything that ever came out of a file.
    """

    environ: Mapping[str, str] = field(repr=False)
    files: set[str] = field(default_factory=set)
    secrets: list[Secret] = field(default_factory=list, repr=False)

    def variable(self, name: str) -> str | None:
        """The value of `name`, or what stands in the file that `name`_FILE names; None when neither is set.

        An empty variable beside its `_FILE` counts as not set: Compose passes unset ones on as empty.

        Raises:
            Unexpandable: both are set, or the file cannot be read.
        """
        value, twin = self.environ.get(name), self.environ.get(f"{name}_FILE")
        if not twin:
            return value
        if value:
            raise Unexpandable(f"{name} and {name}_FILE are both set; keep one")
        return self.file(twin, f"{name}_FILE: ")

    def file(self, path: str, named_by: str = "") -> str:
        """What stands in a file, without one newline at its end.

        Raises:
            Unexpandable: it cannot be read, is no text or is too large; the sentence begins with `named_by`.
        """
        self.files.add(path)
        try:
            with open(path, "rb") as file:  # noqa: PTH123  # a path such as /dev/fd/63 is meant as it stands
                content = file.read(LARGEST_BYTES + 1)
            text = content.decode()
        except OSError as error:
            problem = f"cannot read {path}: {(error.strerror or 'not a file').lower()}"
        except ValueError:
            problem = f"cannot read {path}: not UTF-8 text"
        else:
            if len(content) <= LARGEST_BYTES:
                value = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
                self.secrets.append(Secret(value))
                return value
            problem = f"cannot read {path}: larger than {LARGEST_BYTES} bytes"
        raise Unexpandable(one_line(f"{named_by}{problem}", 200))


def expand(node: Node, sources: Sources, findings: Findings, path: str = "") -> Node:
    """The tree with every `${…}` replaced; what has no value is added to `findings` and left as a broken scalar."""
    if isinstance(node, ScalarNode):
        return _scalar(node, sources, findings, path) if "$" in node.text else node
    if isinstance(node, SequenceNode):
        items = tuple(expand(item, sources, findings, below(path, index)) for index, item in enumerate(node.items))
        return SequenceNode(node.place, items)
    entries = {
        key: Entry(entry.place, expand(entry.node, sources, findings, below(path, key))) for key, entry in node.entries.items()
    }
    return MappingNode(node.place, entries)


def _scalar(node: ScalarNode, sources: Sources, findings: Findings, path: str) -> ScalarNode:
    try:
        return ScalarNode(node.place, expand_text(node.text, sources), plain=False, expanded=True)
    except Unexpandable as error:
        problem = str(error)
    findings.add(node.place, path, problem)
    return ScalarNode(node.place, "", broken=True)


def expand_text(text: str, sources: Sources, depth: int = 1) -> str:
    """The text with `${…}` replaced and `$$` as `$`; a `$` before anything else stays.

    Raises:
        Unexpandable: the first `${…}` that has no value.
    """
    parts: list[str] = []
    at = 0
    while mark := _MARK.search(text, at):
        parts.append(text[at : mark.start()])
        if mark[0] == "$$":
            parts.append("$")
            at = mark.end()
        else:
            end = _closing(text, mark.end())
            parts.append(_value(text[mark.end() : end], sources, depth))
            at = end + 1
    parts.append(text[at:])
    return "".join(parts)


def _closing(text: str, at: int) -> int:
    """Where the brace that was opened before `at` is closed."""
    level = 1
    while brace := _BRACE.search(text, at):
        level += -1 if brace[0] == "}" else 1
        if level == 0:
            return brace.start()
        at = brace.end()
    raise Unexpandable("a `${` is never closed; a dollar sign that is meant as such is written `$$`")


def _value(inside: str, sources: Sources, depth: int) -> str:
    """What stands for `${inside}`. The text between the braces is not shown unless it is a name: it can be part of a password."""
    if depth > DEEPEST:
        raise Unexpandable(f"`${{…}}` nested more than {DEEPEST} levels deep")
    if inside.startswith("file:"):
        return sources.file(expand_text(inside.removeprefix("file:"), sources, depth + 1))
    form = _VARIABLE.fullmatch(inside)
    if form is None:
        raise Unexpandable(f"write {_FORMS}; a dollar sign that is meant as such is written `$$`")
    name, operator, argument = form.groups()
    value = sources.variable(name)
    if value or (value is not None and operator is None):
        return value
    if operator == ":-":
        return expand_text(argument, sources, depth + 1)
    if operator == ":?":
        raise Unexpandable(one_line(f"{name}: {argument or 'must be set'}", 200))
    raise Unexpandable(f"{name} is not set; set it or {name}_FILE, or write `${{{name}:-default}}`")
