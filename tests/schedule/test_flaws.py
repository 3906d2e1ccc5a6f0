"""Readings of somebody else's probe, which has met no type checker."""

from typing import Any

import pytest

from exporter.model import Capability, Distribution, Family, Kind, Metric, Reading, Reason
from exporter.schedule.flaws import flaw

GAUGE = Metric("m", Kind.GAUGE, "M.", ("a",))
HISTOGRAM = Metric("h", Kind.HISTOGRAM, "H.")
DECLARED = {"m": GAUGE, "h": HISTOGRAM}
SOUND = Family(GAUGE, ((("x",), 1), (("y",), 2.5)))


def test_a_sound_reading_has_none() -> None:
    """With everything that one may have."""
    families = (SOUND, Family(HISTOGRAM, (((), Distribution((1.0,), (1,), 0.5, 1)),)))
    capabilities = (Capability("all", available=False),)
    assert flaw(Reading(families, {"version": "1"}, Reason.SLOW, "slow", capabilities, 3.0), DECLARED) is None


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        (None, "the run returned no reading"),
        (Reading(families=None), "families of a reading: is not of its type"),  # type: ignore[arg-type]
        (Reading(detail=None), "detail of a reading: is not of its type"),  # type: ignore[arg-type]
        (Reading(degraded="slow"), "degraded of a reading: is not of its type"),  # type: ignore[arg-type]
        (Reading(message=3), "message of a reading: is not of its type"),  # type: ignore[arg-type]
        (Reading(retry_after_seconds="3"), "retry_after_seconds of a reading: is not of its type"),  # type: ignore[arg-type]
        (Reading(capabilities=("all",)), "capabilities of a reading: is not of its type"),  # type: ignore[arg-type]
        (Reading(("m",)), "a reading that cannot be read: AttributeError"),  # type: ignore[arg-type]
        (Reading((SOUND, SOUND)), "m: stands twice in one reading"),
        (
            Reading((Family(Metric("sidecar_probe_up", Kind.GAUGE, "."), ()),)),
            "sidecar_probe_up: is not a metric that the probe declares",
        ),
        (Reading((Family(Metric("m", Kind.COUNTER, "M.", ("a",)), ()),)), "m: is not a metric that the probe declares"),
    ],
)
def test_what_is_wrong_is_told_and_raises_nothing(reading: Any, told: str) -> None:
    """A run's record must always be made: a check loop that died would never check again."""
    assert flaw(reading, DECLARED) == told


@pytest.mark.parametrize(
    ("metric", "rows", "told"),
    [
        (GAUGE, ((("x", "y"), 1),), "m: label values do not fit its labels"),
        (GAUGE, (((None,), 1),), "m: label values do not fit its labels"),
        (GAUGE, ((("x",), None),), "m: a value is no int and no float"),
        (GAUGE, ((("x",), True),), "m: a value is no int and no float"),
        (GAUGE, ((("x",), Distribution((), (), 0.0, 0)),), "m: a value is no int and no float"),
        (HISTOGRAM, (((), 1),), "h: a value is no Distribution"),
        (GAUGE, ((("x",), 1), (("x",), 2)), "m: two rows have the same labels"),
        (GAUGE, (1, 2), "a reading that cannot be read: TypeError"),
        (GAUGE, None, "a reading that cannot be read: TypeError"),
    ],
)
def test_rows_that_cannot_be_exposed(metric: Metric, rows: Any, told: str) -> None:
    """One bad row on the page would cost the scraper all of it."""
    assert flaw(Reading((Family(metric, rows),)), DECLARED) == told
