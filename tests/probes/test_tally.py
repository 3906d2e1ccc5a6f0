"""Counts by label set, within bounds."""

from exporter.model import Distribution
from exporter.probes.tally import OVERFLOW, Bounded, Histograms, Tally


def test_values_beyond_the_bound_are_counted_as_other() -> None:
    """Whoever can name a task must not be able to fill a Prometheus; a value once known stays known."""
    names = Bounded(2)
    assert [names.of(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OVERFLOW, "a", OVERFLOW]


def test_a_tally_counts_each_label_set() -> None:
    """Rows keep the order in which they came, so that what is rendered once stays where it is."""
    tally = Tally()
    for labels in (("b", "x"), ("a", "x"), ("b", "x")):
        tally.add(*labels)
    assert tally.rows() == ((("b", "x"), 2), (("a", "x"), 1))


def test_a_value_on_a_bound_belongs_below_it() -> None:
    """Bounds are upper-inclusive, as Prometheus' `le` says; what lies above all of them is in the count alone."""
    durations = Histograms((1.0, 5.0))
    for seconds in (0.5, 1.0, 1.5, 9.0):
        durations.observe(seconds, "add")
    assert durations.rows() == ((("add",), Distribution((1.0, 5.0), (2, 3), 12.0, 4)),)
