"""Judging an answer."""

import re

import pytest

from exporter.drivers.http import Answer
from exporter.probes.http.body import Body
from exporter.probes.http.expect import body_fault, is_expected, retry_after_seconds

ANSWER = Answer("GET app:80/", 200, "1.1", b"", True, authorized=False)


@pytest.mark.parametrize(
    ("status", "patterns", "expected"),
    [
        (204, ("2xx",), True),
        (301, ("2xx",), False),
        (301, ("2xx", "301"), True),
        (204, ("200",), False),
        (500, ("5xx",), True),
        (999, ("2xx",), False),
    ],
)
def test_statuses_and_classes(status: int, patterns: tuple[str, ...], expected: bool) -> None:
    """A class holds every status of it, a number only itself."""
    assert is_expected(status, patterns) is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("60", 60.0),
        (" 60 ", 60.0),
        ("0", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 30.0),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 30.0),
        ("Wed Oct 21 07:28:00 2015", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 5000, None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All forms of RFC 9110, section 10.2.3, in UTC wherever we run; anything else is no wait, and no exception."""
    monkeypatch.setenv("TZ", "America/New_York")
    assert retry_after_seconds(value, 1445412450.0) == seconds


@pytest.mark.parametrize(
    ("text", "length", "wanted", "unwanted", "fault"),
    [
        ("all ok", 6, "ok", None, None),
        ("all ok", 6, None, "error", None),
        ("all ok", 6, None, None, None),
        ("hunter2", 7, "ok", None, "body_regex is not found in the body"),
        ("hunter2", None, "ok", None, "body_regex is not found in the body as far as it was read"),
        ("ok, but an error: hunter2", 25, "ok", "error", "not_body_regex is found in the body"),
        (None, None, "ok", None, "the body cannot be decoded, so no regex can be searched for"),
        (None, None, None, None, None),
        ("a" * 50 + "!", 51, None, "(a+)+$", "not_body_regex takes too long on this body; write it so that it backtracks less"),
    ],
)
def test_body_regexes(text: str | None, length: int | None, wanted: str | None, unwanted: str | None, fault: str | None) -> None:
    """What is wrong is said without a word of the body; what could not be searched is not taken for good."""
    found = body_fault(ANSWER, Body(text, length), wanted and re.compile(wanted), unwanted and re.compile(unwanted))  # type: ignore[arg-type]
    assert found == (fault and f"GET app:80/: {fault}")
