"""Availability is added up over time, and does not depend on how often a status changes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Availability
from exporter.state.availability import WINDOWS, Observed

HOUR = 3600.0
ROUNDING = 0.0005
"""Seconds that a minute may be off once it has ended."""


class Naive:
    """Remembers every interval for ever: from, to, and whether it was good."""

    def __init__(self) -> None:
        self.stands: list[tuple[float, float, bool]] = []

    def within(self, begin: float, end: float) -> tuple[float, float]:
        """Good and known seconds between two moments."""
        good = known = 0.0
        for (start, until, is_good), (stop, _, _) in pairwise([*self.stands, (end, end, False)]):
            seconds = max(0.0, min(until, stop, end) - max(start, begin))
            known += seconds
            good += seconds if is_good else 0.0
        return good, known

    def promised(self, now: float, minutes: int) -> tuple[float, float]:
        """What the window holds, the minute that its edge cuts being taken to be the same throughout."""
        edge = now // 60.0 * 60.0 - (minutes - 1) * 60.0
        whole, cut = self.within(edge, now), self.within(edge - 60.0, edge)
        inside = 1.0 - now % 60.0 / 60.0
        return whole[0] + cut[0] * inside, whole[1] + cut[1] * inside


GAPS = st.one_of(st.floats(0.0, 90.0), st.floats(0.0, 10 * HOUR), st.just(60.0), st.just(0.0), st.floats(25 * HOUR, 200 * HOUR))
LASTING = st.one_of(st.floats(-10.0, 200.0), st.just(float("inf")))
STEPS = st.lists(st.tuples(GAPS, LASTING, st.booleans(), st.booleans()), max_size=40)


@given(st.floats(0.0, 1e6), STEPS, GAPS)
def test_it_is_what_adding_up_all_intervals_gives(start: float, steps: list[tuple[float, float, bool, bool]], last: float) -> None:
    """Whatever the status did, however long nobody looked, and whoever looked meanwhile."""
    now, observed, naive = start, Observed(start), Naive()
    for gap, lasting, is_good, looked_at in steps:
        now += gap
        if looked_at:
            observed.availability(now - gap / 2)
        observed.stand(now, now + lasting, good=is_good)
        naive.stands.append((now, now + lasting, is_good))
    now += last
    for name, told in observed.availability(now).items():
        minutes = WINDOWS[name]
        good, known = naive.promised(now, minutes)
        assert (told.good_seconds, told.observed_seconds) == pytest.approx((good, known), abs=minutes * ROUNDING + 1e-3)
        assert told.good_seconds <= told.observed_seconds <= minutes * 60.0 + 1e-6
        # and against the true window, which may begin anywhere in a minute, it is never off by more than a quarter of one
        true_good, true_known = naive.within(now - minutes * 60.0, now)
        assert (told.good_seconds, told.observed_seconds) == pytest.approx((true_good, true_known), abs=15.0 + minutes * ROUNDING)


def test_a_probe_that_flaps_every_other_second_for_a_day_is_half_available() -> None:
    """86400 changes, where a ring of a hundred would know two minutes of them."""
    observed = Observed(0.0)
    for second in range(86400):
        observed.stand(float(second), second + 10.0, good=second % 2 == 0)
    for name, told in observed.availability(86400.0).items():
        assert told.observed_seconds == pytest.approx(WINDOWS[name] * 60.0)
        assert told.ratio == pytest.approx(0.5)


def test_an_outage_leaves_the_hour_before_the_day() -> None:
    """Five minutes in an hour, and the same five in a day; an hour later in the day alone."""
    observed = Observed(0.0)
    observed.stand(0.0, float("inf"), good=True)
    observed.stand(24 * HOUR, float("inf"), good=False)
    observed.stand(24 * HOUR + 300.0, float("inf"), good=True)
    assert _ratios(observed, 25 * HOUR) == pytest.approx([55 / 60, 1435 / 1440])
    assert _ratios(observed, 25 * HOUR + 300.0) == pytest.approx([1.0, 1435 / 1440])
    assert _ratios(observed, 48 * HOUR + 300.0) == [1.0, 1.0]


def _ratios(observed: Observed, now: float) -> list[float | None]:
    return [told.ratio for told in observed.availability(now).values()]


def test_what_is_not_known_is_not_observed() -> None:
    """Not bad time either: the ratio is of what was seen, and says how much that was."""
    observed = Observed(0.0)
    assert observed.availability(600.0)["1h"] == Availability(0.0, 0.0)
    assert observed.availability(600.0)["1h"].ratio is None
    observed.stand(600.0, 660.0, good=True)
    observed.stand(690.0, 690.0, good=False)
    told = observed.availability(1000.0)["24h"]
    assert (told.good_seconds, told.observed_seconds, told.ratio) == (60.0, 60.0, 1.0)


def test_a_pause_of_centuries_takes_no_longer_than_one_of_a_day() -> None:
    """A disabled probe is first looked at when somebody opens the page, maybe after months: no minute of them is walked through."""
    observed = Observed(0.0)
    observed.stand(0.0, 1e10 - 3600.0, good=True)
    told = observed.availability(1e10)
    assert (told["1h"].observed_seconds, told["24h"].observed_seconds) == pytest.approx((0.0, 23 * HOUR), abs=15.0)


def test_the_past_is_the_past_whoever_looks() -> None:
    """A reader between two changes, or one that looks with a clock that is a moment behind, changes nothing."""
    seen, unseen = Observed(0.0), Observed(0.0)
    for now in range(0, 7200, 7):
        seen.availability(now - 30.0)
        seen.availability(now + 2.0)
        for observed in (seen, unseen):
            observed.stand(float(now + 2), now + 30.0, good=now % 3 == 0)
    for window in WINDOWS:
        one, other = seen.availability(7200.0)[window], unseen.availability(7200.0)[window]
        assert (one.good_seconds, one.observed_seconds) == pytest.approx((other.good_seconds, other.observed_seconds))
