"""Moments, spans and the aggregate's `since`."""

from dataclasses import replace

import pytest

from exporter.health import report
from exporter.model import ProbeStatus, Status
from exporter.web.wording import aggregate_since, clock, listing, percent, span, took
from tests.web.serving import BINANCE, CELERY, DB, NOW, RABBITMQ, REPORT, WALL, snapshot


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3.0, "0s"),
        (0.9, "0s"),
        (4.1, "4s"),
        (60.0, "1m"),
        (134.0, "2m14s"),
        (3600.0, "1h"),
        (11_100.0, "3h5m"),
        (86_399.0, "23h59m"),
        (198_000.0, "2d7h"),
    ],
)
def test_a_span_has_its_two_largest_units(seconds: float, words: str) -> None:
    """Nobody reads the seconds of a day."""
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.00031, "0.31ms"),
        (0.000999, "1.0ms"),
        (0.0031, "3.1ms"),
        (0.0424, "42ms"),
        (0.9996, "1.0s"),
        (1.24, "1.2s"),
        (12.0, "12.0s"),
    ],
)
def test_a_duration_keeps_two_digits_that_matter(seconds: float, words: str) -> None:
    """A PING of 0.31 ms must not read 0 ms."""
    assert took(seconds) == words


def test_a_clock_shows_its_date_only_when_that_is_not_today() -> None:
    """04:02:52Z of which day?"""
    assert clock(WALL - 134, WALL) == "04:02:52Z"
    assert clock(WALL - 2 * 86400, WALL) == "2026-11-22T04:05:06Z"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, ""), (0.0, "0.00%"), (0.5, "50.00%"), (0.9995, "99.95%"), (0.99999, "99.99%"), (1.0, "100%")],
)
def test_a_share_is_never_rounded_up(ratio: float | None, text: str) -> None:
    """100% is said of what never failed, and of nothing else."""
    assert percent(ratio) == text


def test_a_listing_is_bounded() -> None:
    """Ten thousand names in a 404 help nobody."""
    assert listing(["a", "b"], 2) == "a, b"
    assert listing(["a", "b", "c", "d"], 2) == "a, b and 2 more"


@pytest.mark.parametrize(
    ("probes", "age"),
    [
        ((RABBITMQ, CELERY, DB, BINANCE), 134.0),  # the first critical one that went down
        ((DB, BINANCE), 12.0),  # degraded since its only reason
        ((replace(DB, since_at=WALL - 5), BINANCE), 5.0),  # before that, db may have been down
        ((DB, replace(DB, name="b", since_at=WALL - 7)), 7.0),  # healthy since the last one came back
        ((DB, REPORT), 900.0),  # a disabled one counts for nothing
    ],
)
def test_the_aggregate_stands_so_since(probes: tuple[ProbeStatus, ...], age: float) -> None:
    """An operator asks since when, and must not be told too long."""
    assert aggregate_since(report(snapshot(*probes), NOW)) == pytest.approx(WALL - age)


def test_unknown_has_no_beginning() -> None:
    """Nobody saw it begin."""
    assert aggregate_since(report(snapshot(replace(DB, overdue=NOW - 1)), NOW)) is None
    assert aggregate_since(report(snapshot(ProbeStatus("new", "http", status=Status.UNKNOWN)), NOW)) is None
