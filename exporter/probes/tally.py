"""What listeners count, by label set, within bounds: names that come from a target must never fill a Prometheus.

Counts only grow. Knows no clock, no probe and no protocol.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from exporter.model import Distribution, Row

OVERFLOW = "other"
"""What stands for every value beyond the bound."""


class Bounded:
    """A label's values: the first `most` of them by their name, every later one as `other`; mutable."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()

    def of(self, value: str) -> str:
        """The label value under which `value` is counted, for good."""
        if value in self._seen:
            return value
        if len(self._seen) >= self._most:
            return OVERFLOW
        self._seen.add(value)
        return value


class Tally:
    """A counter by label set; mutable."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str) -> None:
        self._counts[labels] = self._counts.get(labels, 0) + 1

    def rows(self) -> tuple[Row, ...]:
        return tuple(self._counts.items())


class Histograms:
    """A histogram by label set; mutable. `bounds` rise and are upper-inclusive."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, value: float, *labels: str) -> None:
        buckets = self._buckets.setdefault(labels, [0] * (len(self._bounds) + 1))
        buckets[bisect_left(self._bounds, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def rows(self) -> tuple[Row, ...]:
        return tuple(self._rows())

    def _rows(self) -> Iterator[Row]:
        for labels, buckets in self._buckets.items():
            cumulative = tuple(accumulate(buckets))
            yield labels, Distribution(self._bounds, cumulative[:-1], self._sums[labels], cumulative[-1])
