"""What scalars of the configuration may look like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.probes.fields import NAME, format_duration, parse_duration, parse_size, parse_wait


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("15s", 15), ("1m30s", 90), ("2h", 7200), ("1d", 86400), ("1.5s", 1.5), (" 15s ", 15), ("1h1ms", 3600.001)],
)
def test_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    """The forms of Prometheus."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "15", "s", "1h30", "30s1m", "-1s", "1e3s", "1 s", "١s", "0s", "0m0s", "367d", "9" * 400 + "d", 15, None, True, []]
)
def test_other_durations_are_refused_with_a_sentence(text: object) -> None:
    """A bare number has no unit, zero would spin, and ten years are a slip."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_wait_may_be_zero() -> None:
    """Not to drain at all is a choice."""
    assert parse_wait("0s") == 0.0


@given(st.integers(0, 366 * 86_400_000))
def test_written_duration_reads_back_to_the_millisecond(milliseconds: int) -> None:
    """What a message says can be copied into the file."""
    assert parse_wait(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_our_sentence(text: str) -> None:
    """No other error, and no piece of the text in the sentence."""
    try:
        seconds, said = parse_duration(text), ""
    except ValueError as error:
        seconds, said = 1.0, str(error)
    assert 0 < seconds <= 366 * 86400
    assert said.startswith(("not a duration; ", "a duration must be ")) or not said


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 64 * 2**20), ("10KB", 10_000), ("5 GiB", 5 * 2**30), ("7B", 7), ("7", 7), (7, 7)]
)
def test_size_is_read_in_bytes(text: object, size: int) -> None:
    """Binary and decimal units, and plain bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1mib", "-1", -1, True, None, "1.5MiB"])
def test_other_sizes_are_refused_with_a_sentence(text: object) -> None:
    """A size is a whole number of bytes."""
    with pytest.raises(ValueError, match="not a size; write it such as 64MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("db", True),
        ("5432", True),
        ("a.b-c_d", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("-a", False),
        ("a/b", False),
        ("", False),
    ],
)
def test_names_fit_into_a_path_and_a_label(text: str, fits: bool) -> None:
    """A probe's name stands in /health/NAME and in every series."""
    assert bool(NAME.fullmatch(text)) is fits
