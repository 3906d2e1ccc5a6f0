"""Counting our own requests."""

from exporter.model import Distribution
from exporter.web.tally import BOUNDS_SECONDS, Tally


def test_expected_label_sets_stand_at_zero() -> None:
    """A rate over a series that begins at 1 misses its first event."""
    requests, durations = Tally([("health", "GET", "200"), ("health", "GET", "503")]).families()
    assert requests.rows == ((("health", "GET", "200"), 0), (("health", "GET", "503"), 0))
    assert durations.rows == ((("health",), Distribution(BOUNDS_SECONDS, (0, 0, 0, 0, 0), 0.0, 0)),)


def test_counts_add_up_and_buckets_are_cumulative_and_upper_inclusive() -> None:
    """`le` means less or equal."""
    tally = Tally([("metrics", "GET", "200")])
    for seconds in (0.0005, 0.001, 0.02, 7.0):
        tally.count("metrics", "GET", 200, seconds)
    requests, durations = tally.families()
    assert requests.rows == ((("metrics", "GET", "200"), 4),)
    assert durations.rows == ((("metrics",), Distribution(BOUNDS_SECONDS, (2, 2, 3, 3, 3), 7.0215, 4)),)


def test_a_method_that_nobody_defined_is_other() -> None:
    """A client may send any word; a label value must come from a closed set."""
    tally = Tally([("other", "GET", "404")])
    tally.count("other", "BREW", 404, 0.0)
    assert (("other", "other", "404"), 1) in tally.families()[0].rows
