"""Judges an answer: its status, its body, its Retry-After. Pure; `now` is passed in."""

import re
from collections.abc import Collection
from email.utils import parsedate_to_datetime

from exporter.drivers.http import Answer
from exporter.probes.http.body import Body, SearchTooSlow

_SECONDS = re.compile(r"[0-9]{1,10}")


def is_expected(status: int, patterns: Collection[str]) -> bool:
    """Whether a status is one of `patterns`, such as `204` or `2xx`."""
    return str(status) in patterns or f"{status // 100}xx" in patterns


def body_fault(answer: Answer, body: Body, wanted: re.Pattern[str] | None, unwanted: re.Pattern[str] | None) -> str | None:
    """What is wrong with the body, in one line without any of its text; None when it is as asked for."""
    if wanted is None and unwanted is None:
        return None
    if body.text is None:
        return f"{answer.where}: the body cannot be decoded, so no regex can be searched for"
    for name, pattern, must_match in (("body_regex", wanted, True), ("not_body_regex", unwanted, False)):
        if pattern is None:
            continue
        try:
            found = body.contains(pattern)
        except SearchTooSlow:
            return f"{answer.where}: {name} takes too long on this body; write it so that it backtracks less"
        if found != must_match:
            return f"{answer.where}: {_mismatch(name, must_match, body)}"
    return None


def _mismatch(name: str, must_match: bool, body: Body) -> str:
    if not must_match:
        return f"{name} is found in the body"
    return f"{name} is not found in the body" + ("" if body.length is not None else " as far as it was read")


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Seconds of a Retry-After header, given as a number or as a date (RFC 9110, section 10.2.3), `now` being Unix seconds.

    None when it is absent or cannot be read; a moment in the past is 0.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
