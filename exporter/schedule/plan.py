"""The grid on which runs are planned. Pure: moments are monotonic seconds, passed in."""

from dataclasses import dataclass
from math import floor
from typing import Self
from zlib import crc32

FIRST_SPREAD_SECONDS = 0.5
TICK_SECONDS = 0.005


def fraction(name: str) -> float:
    """A stable number in 0..1 for a name: the same in every process, so a restart does not move the schedule."""
    return crc32(name.encode()) / 2**32


def first(name: str, now: float) -> float:
    """When the first run starts: all within half a second, not all at once."""
    return now + fraction(name) * FIRST_SPREAD_SECONDS


@dataclass(frozen=True, slots=True)
class Grid:
    """The moments at which something is due: so many seconds after every multiple of its interval."""

    interval_seconds: float
    phase_seconds: float

    @classmethod
    def of(cls, name: str, interval_seconds: float) -> Self:
        """The grid of a name. Phases are whole ticks: what is due in the same one shares a wake-up of the event loop."""
        return cls(interval_seconds, fraction(name) * interval_seconds // TICK_SECONDS * TICK_SECONDS)

    def next(self, after: float) -> float:
        """The first moment after `after`."""
        return (self._index(after) + 1) * self.interval_seconds + self.phase_seconds

    def between(self, start: float, end: float) -> int:
        """How many moments lie after `start` and not after `end`."""
        return max(0, self._index(end) - self._index(start))

    def _index(self, moment: float) -> int:
        """Number of the last moment not after that one; one that is a millionth of the interval ahead counts as reached."""
        return floor((moment - self.phase_seconds) / self.interval_seconds + 1e-6)
