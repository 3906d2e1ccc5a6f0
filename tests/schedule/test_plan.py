"""The grid: stable, spread, never twice the same moment."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.schedule.plan import FIRST_SPREAD_SECONDS, TICK_SECONDS, Grid, first, fraction

INTERVALS = st.sampled_from([0.1, 0.3, 1.0, 7.5, 15.0, 3600.0])
MOMENTS = st.floats(0, 1e7)


@given(st.text(min_size=1), INTERVALS, MOMENTS)
def test_next_slot_lies_ahead_within_one_interval(name: str, interval: float, now: float) -> None:
    """A slot that is not ahead would spin, one farther away would be a skipped check."""
    slot = Grid.of(name, interval).next(now)
    assert now < slot <= now + interval * 1.0001


@given(st.text(min_size=1), INTERVALS, MOMENTS, st.integers(1, 50))
def test_slots_between_counts_what_next_slot_visits(name: str, interval: float, start: float, steps: int) -> None:
    """Skipped checks are counted exactly, also over many intervals."""
    grid, end = Grid.of(name, interval), start
    for _ in range(steps):
        end = grid.next(end)
    assert grid.between(start, end + interval / 1000) == steps


def test_names_are_spread_over_the_interval() -> None:
    """A hundred probes of one interval must not all start at once."""
    tenths = {int(fraction(f"probe-{number}") * 10) for number in range(100)}
    assert tenths == set(range(10))


def test_moments_of_many_names_share_wake_ups() -> None:
    """A thousand probes a second wake the loop two hundred times, not a thousand."""
    moments = {round(Grid.of(f"probe-{number}", 1.0).next(50.0), 6) for number in range(10_000)}
    assert len(moments) <= 1 / TICK_SECONDS


def test_first_checks_start_within_the_first_second() -> None:
    """A person who just started it is looking at the page."""
    starts = [first(f"probe-{number}", 50.0) for number in range(100)]
    assert max(starts) - 50.0 <= FIRST_SPREAD_SECONDS
