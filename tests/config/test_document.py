"""YAML as a tree with places: the traps of the format, answered plainly."""

import time

import pytest
import yaml

from exporter.config import document
from exporter.config.document import MappingNode, ScalarNode, SequenceNode, as_python, parse
from exporter.config.findings import Findings


def read(content: str | bytes) -> object:
    """The values of a text that has no problem."""
    findings = Findings()
    node = parse(content.encode() if isinstance(content, str) else content, "c.yaml", findings)
    assert findings.problems() == ()
    assert node is not None
    return as_python(node)


def problems(content: str | bytes) -> list[str]:
    """What is wrong with a text."""
    findings = Findings()
    parse(content.encode() if isinstance(content, str) else content, "c.yaml", findings)
    return [str(problem) for problem in findings.problems()]


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def either_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """libyaml, and PyYAML's own parser for machines without it."""
    monkeypatch.setattr(document, "LOADER", getattr(yaml, request.param))
    return str(request.param)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("false", False),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("True", "True"),
        ("12:30:45", "12:30:45"),
        ("0777", "0777"),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        ("2026-11-24", "2026-11-24"),
        ("-7", -7),
        ("0", 0),
        ("0.25", 0.25),
        ("1.2.3", "1.2.3"),
        ("9" * 19, "9" * 19),
        ("~", None),
        ("null", None),
        ("", None),
        ('"5"', "5"),
        ("'true'", "true"),
        ("!!str 5", "5"),
        ("=", "="),
        ("$5", "$5"),
    ],
)
@pytest.mark.usefixtures("either_parser")
def test_only_true_false_and_decimal_numbers_are_not_text(written: str, value: object) -> None:
    """YAML 1.1 turns `no`, `12:30:45` and dates into something nobody wrote."""
    assert read(f"key: {written}\n") == {"key": value}


@pytest.mark.usefixtures("either_parser")
def test_every_key_and_value_knows_its_place() -> None:
    """A problem is told with file, line and column, of the key or of the value, whichever is wrong."""
    root = parse(b"\xef\xbb\xbfa: x\nb:\n  - [1, {c: 2}]\n", "c.yaml", Findings())
    assert isinstance(root, MappingNode)
    assert [str(entry.place) for entry in root.entries.values()] == ["c.yaml:1:1", "c.yaml:2:1"]
    outer = root.get("b")
    assert isinstance(outer, SequenceNode)
    inner = outer.items[0]
    assert isinstance(inner, SequenceNode)
    assert [str(item.place) for item in inner.items] == ["c.yaml:3:6", "c.yaml:3:9"]


@pytest.mark.usefixtures("either_parser")
def test_duplicates_are_all_told_with_both_places() -> None:
    """PyYAML keeps the last silently, so half of what was written would be without effect."""
    assert problems("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n") == [
        "c.yaml:4:3: b.c: stands twice, first at c.yaml:3:3; keep one",
        "c.yaml:5:1: a: stands twice, first at c.yaml:1:1; keep one",
    ]


def test_merge_keys_bring_in_what_is_not_written() -> None:
    """Compose files have made `<<` a habit; the earlier of several mappings wins, and what is written wins over all."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\n"
    assert read(text) == {"a": {"x": 1, "y": 1}, "b": {"y": 2, "z": 2}, "c": {"x": 3, "y": 1, "z": 2}}
    assert problems("a: {<<: 5}\n") == ["c.yaml:1:9: a.<<: `<<` merges a mapping, or a list of mappings, by alias"]


def test_alias_bomb_ends_at_once() -> None:
    """Nine lines can stand for a billion values; they are counted, not built."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    started = time.perf_counter()
    assert problems("\n".join(lines)) == ["c.yaml:6:10: more than 200000 values, those behind aliases counted each time"]
    assert time.perf_counter() - started < 2


def test_long_text_behind_many_aliases_is_bounded() -> None:
    """A text of a megabyte aliased ten thousand times is a bomb too."""
    assert "values" in problems(f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 10_000)}]\n")[0]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 3000 + "a", "".join(f"{' ' * n}a:\n" for n in range(200)), "{a: " * 100_000]
)
@pytest.mark.usefixtures("either_parser")
def test_deep_nesting_is_refused_and_not_followed(text: str) -> None:
    """A recursion without a bound would end in the interpreter's own error, or in none."""
    assert ["nested more than 50 levels deep" in problem for problem in problems(text)] == [True]


def test_depth_behind_aliases_counts() -> None:
    """Anchors within anchors make a tree deeper than any line of the file."""
    nested = "[" * 20 + "{}" + "]" * 20
    text = f"a: &a {nested.format('x')}\nb: &b {nested.format('*a')}\nc: {nested.format('*b')}\n"
    assert ["nested more than 50 levels deep" in problem for problem in problems(text)] == [True]


def test_alias_within_its_own_anchor_is_refused() -> None:
    """A tree that holds itself has no end."""
    assert problems("a: &a [*a]\n")[0].startswith("c.yaml:1:8: a[0]: `*` begins an alias")


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("a: @b\n", "1:4", "a value cannot begin with @ here; put it in quotes"),
        ("a: `b`\n", "1:4", "a value cannot begin with ` here; put it in quotes"),
        ("a:\n\tb: c\n", "2:1", "a tab; indent with spaces"),
        ("a: b: c\n", "1:5", "a colon inside a value; put the value in quotes"),
        ("a: - b\n", "1:4", "a list cannot begin on its key's line"),
        ("a: {b: c\nd: e\n", "2:2", "expected `,` or `}`"),
        ("a: [b\nc: d\n", "2:2", "expected `,` or `]`"),
        ('a: "b\nc: d\n', "1:4", "a quote is opened here and never closed"),
        ("a: 'b' c\n", "1:8", "cannot be read here"),
        ("a:\n  - b\n  c: d\n", "3:3", "not a list item"),
        ("a: !x!y z\n", "1:4", "a value that begins with `!` needs quotes"),
        ("a: |x\n  b\n", "1:5", "after `|` or `>` the text begins on the next line"),
        ("a: {{ b }}\n", "1:5", "a key must be one word"),
        ("a: {type: redis,\n  url: ${URL}}\n", "2:9", "quote it"),
        ("a: [${A}, b]\n", "1:6", "quote it"),
        ("a: redis://${HOST}: 6379\n", "1:19", "quote it"),
        ("a: b\n---\nc: d\n", "2:1", "a second document begins here"),
        ("a: \x07\n", "1:4", "a control character"),
    ],
)
@pytest.mark.usefixtures("either_parser")
def test_syntax_error_has_a_place_and_a_cure(text: str, place: str, sentence: str) -> None:
    """PyYAML speaks of tokens and mappings; a person at 3 a.m. needs to know what to type."""
    assert [problem.startswith(f"c.yaml:{place}: {sentence}") for problem in problems(text)] == [True], problems(text)


@pytest.mark.parametrize("mark", ["!", "&", "*"])
@pytest.mark.usefixtures("either_parser")
def test_unquoted_password_that_is_yaml_is_refused_and_not_shown(mark: str) -> None:
    """Such a password would silently become nothing, and the message must not hold it."""
    told = problems(f"password: {mark}hunter2\n")
    assert [problem.startswith("c.yaml:1:11: password: ") and "needs quotes" in problem for problem in told] == [True]
    assert "hunter2" not in str(told)


@pytest.mark.parametrize(
    "tagged", ["!!python/object/apply:os.system ['true']", "!!binary aGVsbG8=", "!!timestamp 2026-11-24", "!!int 5", "!Ref name"]
)
def test_no_tag_is_followed(tagged: str) -> None:
    """A configuration builds no objects."""
    assert [problem.startswith("c.yaml:1:4: a: `!` begins a tag") for problem in problems(f"a: {tagged}\n")] == [True]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: b\nc: \xff\n", "c.yaml:2:4: not UTF-8 text from here; save the file as UTF-8"),
        ("a: ä\n".encode("latin-1"), "c.yaml:1:4: not UTF-8 text from here; save the file as UTF-8"),
        ("a: b\n".encode("utf-16"), "c.yaml:1:1: is UTF-16; save it as UTF-8"),
        (b"\x7fELF\x02\x01", "c.yaml:1:1: a control character; YAML is text, so remove it or write it as an escape"),
    ],
)
def test_what_is_not_text_is_told_with_its_place(content: bytes, sentence: str) -> None:
    """An editor's other encoding is a slip, not a stack trace."""
    assert problems(content) == [sentence]


@pytest.mark.parametrize("content", ["", "# only a comment\n", "\n\n"])
def test_nothing_written_is_no_node(content: str) -> None:
    """What an empty file means is for the check to say."""
    findings = Findings()
    assert parse(content.encode(), "c.yaml", findings) is None
    assert not findings


def test_repr_of_a_node_holds_no_value() -> None:
    """A tree in a debugger or a log would show every password of the file."""
    root = parse(b"password: hunter2\n", "c.yaml", Findings())
    assert isinstance(root, MappingNode)
    assert isinstance(root.get("password"), ScalarNode)
    assert "hunter2" not in repr(root)
