"""The grid on which runs are planned. Pure: moments are monotonic seconds, passed in."""

from math import floor
from zlib import crc32

FIRST_SPREAD_SECONDS = 0.5


def fraction(name: str) -> float:
    """A stable number in 0..1 for a name: the same in every process, so a restart does not move the schedule."""
    return crc32(name.encode()) / 2**32


def first(name: str, now: float) -> float:
    """When the first run starts: all within half a second, not all at once."""
    return now + fraction(name) * FIRST_SPREAD_SECONDS


def next_slot(name: str, interval_seconds: float, after: float) -> float:
    """The first moment of the name's grid after `after`."""
    return (_index(name, interval_seconds, after) + 1 + fraction(name)) * interval_seconds


def slots_between(name: str, interval_seconds: float, start: float, end: float) -> int:
    """How many moments of the grid lie after `start` and not after `end`."""
    return max(0, _index(name, interval_seconds, end) - _index(name, interval_seconds, start))


def _index(name: str, interval_seconds: float, moment: float) -> int:
    """Number of the last slot not after `moment`; one that is a millionth of the interval ahead counts as reached."""
    return floor(moment / interval_seconds - fraction(name) + 1e-6)
