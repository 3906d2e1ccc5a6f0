"""`${…}` in values: every form, its failures, and what must never happen."""

from pathlib import Path

import pytest

from exporter.config.document import as_python, parse
from exporter.config.expand import Sources, Unexpandable, expand, expand_text
from exporter.config.findings import Findings

ENVIRON = {"NAME": "value", "EMPTY": "", "OTHER": "o"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${NAME}", "value"),
        ("a${NAME}b${OTHER}c", "avalueboc"),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${UNSET:-default}", "default"),
        ("${UNSET:-}", ""),
        ("${NAME:-default}", "value"),
        ("${NAME:?must be set}", "value"),
        ("${UNSET:-a:b{c}", "a:b{c"),
        ("${UNSET:-${OTHER}}", "o"),
        ("${UNSET:-${ALSO:-x}y}", "xy"),
        ("$$", "$"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$value"),
        ("cost: $5, $NAME, 100%$", "cost: $5, $NAME, 100%$"),
        ("a}b", "a}b"),
    ],
)
def test_forms(text: str, value: str) -> None:
    """The forms that Compose and the shell have taught everybody; a lone `$` is only a dollar."""
    assert expand_text(text, Sources(ENVIRON)) == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("${UNSET}", "UNSET is not set; set it or UNSET_FILE, or write `${UNSET:-default}`"),
        ("${UNSET:?the database's URL}", "UNSET: the database's URL"),
        ("${EMPTY:?}", "EMPTY: must be set"),
        ("${NAME", "a `${` is never closed; a dollar sign that is meant as such is written `$$`"),
        ("${file:/nowhere/at/all}", "cannot read /nowhere/at/all: no such file or directory"),
        ("${file:/}", "cannot read /: is a directory"),
        ("${A:-" * 7 + "}" * 7, "`${…}` nested more than 5 levels deep"),
    ],
)
def test_what_has_no_value_says_what_to_do(text: str, sentence: str) -> None:
    """The name of the variable, or of the file, is what the operator needs."""
    with pytest.raises(Unexpandable) as caught:
        expand_text(text, Sources(ENVIRON))
    assert str(caught.value) == sentence


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A-secret}", "${A:=secret}", "${ secret }", "${A.b}"])
def test_other_forms_are_refused_without_being_shown(text: str) -> None:
    """What stands between the braces may be a piece of a password that nobody escaped."""
    with pytest.raises(Unexpandable) as caught:
        expand_text(f"pa{text}ss", Sources(ENVIRON))
    assert str(caught.value).startswith("write `${NAME}`, `${NAME:-default}`, `${NAME:?message}` or `${file:/path}`")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "value"), [("s3\n", "s3"), ("s3", "s3"), ("s3\n\n", "s3\n"), ("s3\r\n", "s3"), (" s3 ", " s3 ")]
)
def test_file_loses_one_newline_alone(tmp_path: Path, content: str, value: str) -> None:
    """Editors add a newline; anything else may belong to the secret."""
    path = tmp_path / "secret"
    path.write_bytes(content.encode())
    sources = Sources({"DIR": str(tmp_path), "TOKEN_FILE": str(path)})
    assert expand_text("${file:${DIR}/secret}", sources) == value
    assert expand_text("${TOKEN}", sources) == value
    assert sources.files == {str(path)}
    assert [secret.reveal() for secret in sources.secrets] == [value, value]


def test_twin_is_used_by_every_form_that_names_the_variable(tmp_path: Path) -> None:
    """X_FILE is read wherever X is, before any default; an empty X beside it counts as unset."""
    path = tmp_path / "secret"
    path.write_text("from-file\n")
    sources = Sources({"X": "", "X_FILE": str(path)})
    assert [expand_text(text, sources) for text in ("${X}", "${X:-d}", "${X:?m}")] == ["from-file"] * 3


def test_variable_and_twin_together_are_an_error(tmp_path: Path) -> None:
    """Whichever were taken, half of the readers would have expected the other."""
    with pytest.raises(Unexpandable, match="X and X_FILE are both set; keep one"):
        expand_text("${X}", Sources({"X": "a", "X_FILE": str(tmp_path / "x")}))


def test_unreadable_twin_is_named(tmp_path: Path) -> None:
    """The path alone does not say which variable led to it."""
    with pytest.raises(Unexpandable) as caught:
        expand_text("${X}", Sources({"X_FILE": str(tmp_path / "gone")}))
    assert str(caught.value).startswith("X_FILE: cannot read ")


@pytest.mark.parametrize(("content", "sentence"), [(b"\xff\xfe", "not UTF-8 text"), (b"x" * 70_000, "larger than 65536 bytes")])
def test_file_that_is_no_secret_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A path to the wrong file must not be sent to a server as a password."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(Unexpandable, match=sentence):
        expand_text(f"${{file:{path}}}", Sources({}))


def test_value_never_changes_the_document() -> None:
    """Text put in after parsing stays one scalar, whatever YAML it would be."""
    hostile = "x\nadmin: true\n- [*a, !!python/none ~]"
    root = parse(b"a: ${V}\nb: [x, '${V}']\n", "c.yaml", Findings())
    assert root is not None
    assert as_python(expand(root, Sources({"V": hostile}), Findings())) == {"a": hostile, "b": ["x", hostile]}


def test_value_is_text_whatever_it_looks_like() -> None:
    """The field's type converts it; YAML's does not."""
    root = parse(b"a: ${V}\nb: ${W}\nc: 5\n", "c.yaml", Findings())
    assert root is not None
    assert as_python(expand(root, Sources({"V": "5", "W": "true"}), Findings())) == {"a": "5", "b": "true", "c": 5}


def test_each_failure_is_told_at_its_own_place() -> None:
    """All at once: an operator sets the missing variables in one go."""
    findings = Findings()
    root = parse(b"a: ${V}\nb: [x, '${W}']\nc: ${V:-d}\n", "c.yaml", findings)
    assert root is not None
    expand(root, Sources({}), findings)
    assert [(problem.place, problem.path) for problem in findings.problems()] == [("c.yaml:1:4", "a"), ("c.yaml:2:8", "b[1]")]


def test_repr_of_sources_holds_no_value(tmp_path: Path) -> None:
    """The environment is full of secrets that are not even ours."""
    path = tmp_path / "secret"
    path.write_text("from-file")
    sources = Sources({"PASSWORD": "hunter2", "X_FILE": str(path)})
    sources.variable("X")
    assert "hunter2" not in repr(sources)
    assert "from-file" not in repr(sources)
