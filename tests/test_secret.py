"""Secrets never print, and text is cleaned of them."""

import json
import logging
import time
from io import StringIO
from urllib.parse import quote, quote_plus

import pytest

from exporter.log import configure
from exporter.secret import Redactor, Secret, one_line, without_literals

CANARY = "tr0ub4dor&3"


def test_a_secret_shows_in_no_format() -> None:
    """Whatever prints it: a log line, an assertion, a debugger's repr."""
    secret = Secret(CANARY)
    for text in (str(secret), repr(secret), f"{secret}", f"{secret!r:>10}", repr({"password": secret})):
        assert CANARY not in text
    with pytest.raises(TypeError):
        __import__("pickle").dumps(secret)


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to postgresql://bob:{CANARY}@db:5432/x",
        "redis://:tr0ub4dor%263@cache refused",
        f"GET https://api.example/v1?token={CANARY} failed",
        f"password={CANARY} user=bob",
        f'Authorization: "{CANARY}"',
        f"said {CANARY} aloud",
        "Authorization: Bearer tr0ub4dor.unknown",
        "DB_PASSWORD=tr0ub4dor",
        '{"password": "tr0ub4dor"}',
        '{"password": "unclosed tr0ub4dor',
        "access_token=tr0ub4dor",
        "https://api.example/cb?tr0ub4dor",
        "in another case: TR0UB4DOR%263",
    ],
)
def test_text_is_cleaned(text: str) -> None:
    """Known secrets anywhere, and what looks like one although nobody told us."""
    cleaned = Redactor([Secret(CANARY)]).clean(text)
    assert CANARY not in cleaned
    assert "tr0ub4dor" not in cleaned.lower()


def test_a_secret_is_known_in_whatever_form_it_is_quoted() -> None:
    """A driver shows the repr, a proxy the percent-encoded text, a JSON API its own escapes, a log one line of several."""
    value = 'ab"c\\d/é+ x\nsecond-line'
    redactor = Redactor([Secret(value)])
    for text in (repr(value), json.dumps(value), quote_plus(value), quote(value, safe=""), one_line(f"said {value}", 200)):
        assert "second-line" not in redactor.clean(text)


@pytest.mark.parametrize(
    "said", ["WRONGPASS tr0ub4dor-left?'\"r1ght-tr0ub4dor", "password of '…\"r1ght-tr0ub4dor", "tr0ub4dor-left\\xc3\\xa9"]
)
def test_what_is_left_of_a_mangled_secret_is_known_too(said: str) -> None:
    """Redis escapes bytes its own way, others write `?` for what is not ASCII, and a quote within may end a literal too early."""
    cleaned = Redactor([Secret("tr0ub4dor-left\u00e9'\"r1ght-tr0ub4dor")]).clean(said)
    assert "tr0ub4dor" not in cleaned


def test_ordinary_words_within_a_secret_stay_readable() -> None:
    """A request body is a secret, and may hold words that every other message needs."""
    redactor = Redactor([Secret('{"connection": "refused", "timeout": 30}')])
    assert redactor.clean("connection refused after the timeout") == "connection refused after the timeout"


def test_a_log_line_that_cannot_be_formatted_prints_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    """The standard library prints the arguments of such a line to the terminal."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    try:
        configure("text", "info", Redactor(), StringIO())
        logging.getLogger("x").warning("a %d", CANARY)
    finally:
        root.handlers[:], level, logging.raiseExceptions = before
        root.setLevel(level)
    assert CANARY not in capsys.readouterr().err


@pytest.mark.parametrize(
    "unit", ["y", "password", "password=", "token ", "://", "a://", "a?", "a?b=", "token='", "'", "\"'", "-", "x@", "Bearer "]
)
def test_cleaning_takes_no_time_whatever_a_server_sends(unit: str) -> None:
    """PostgreSQL may send a message of 16 MB, and cleaning it holds the loop: nobody's text may cost a restart."""
    text = unit * (4_000_000 // len(unit))
    redactor = Redactor([Secret(CANARY)])
    began = time.perf_counter()
    assert len(redactor.clean(text)) <= 4100
    assert len(without_literals(text)) <= 4100
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize("form", ["{}", "postgresql://bob:{}@db/x", "password='a b {}", "https://h/x?key={}", "Bearer {}"])
def test_no_piece_of_a_secret_is_left_where_a_long_text_is_cut(form: str) -> None:
    """Half a password is not recognised, and half of one is too much."""
    redactor = Redactor([Secret(f"{CANARY} and more of it")])
    for start in range(4000, 4200):
        text = "x" * start + " " + form.format(f"{CANARY} and more of it") + " " + "x" * 5000
        assert CANARY[:5] not in redactor.clean(text)
        assert CANARY[:5] not in without_literals(f"{'x' * start} ('{CANARY}') {'x' * 5000}")


def test_ordinary_text_is_left_alone() -> None:
    """A message must still say what happened and where."""
    text = "connect 10.0.0.7:5432: connection refused"
    assert Redactor([Secret("x"), Secret(CANARY)]).clean(text) == text


def test_quoted_literals_of_a_server_are_dropped() -> None:
    """`Key (email)=('bob@example.com') already exists` holds a row."""
    assert without_literals("column \"a\" of 'it''s' fails") == "column … of … fails"


def test_one_line_has_no_control_characters_and_a_bound() -> None:
    """A terminal at 3 a.m. must not be reprogrammed by a server's message."""
    assert one_line("a\x1b[31m\nb\tc", 200) == "a [31m b c"
    assert len(one_line("x" * 500, 200)) == 200


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_lines_are_redacted_whole(form: str) -> None:
    """Arguments and message are joined before they are cleaned."""
    stream = StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure(form, "info", Redactor([Secret(CANARY)]), stream)  # type: ignore[arg-type]
        logging.getLogger("x").warning("login %s failed", CANARY)
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    assert "login … failed" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_rotated_secrets_are_remembered_for_a_while_and_not_for_ever() -> None:
    """A run that began with the old password may still quote it; after twenty rotations no run is that old."""
    redactor = Redactor([Secret("password-0")])
    for number in range(1, 31):
        redactor.learn([Secret(f"password-{number}")])
    assert redactor.clean("password-30 password-29 password-11") == "… … …"
    assert redactor.clean("login with password-9 refused") == "login with password-9 refused"


def test_a_configuration_that_is_read_again_pushes_nothing_out() -> None:
    """Reloads are many, rotations are few."""
    redactor = Redactor([Secret("first-secret")])
    redactor.learn([Secret("second-secret")])
    for _ in range(100):
        redactor.learn([Secret("second-secret")])
    assert redactor.clean("first-secret") == "…"
