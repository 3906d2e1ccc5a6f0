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
    offset = fraction(name) * interval_seconds
    slot = (floor((after - offset) / interval_seconds) + 1) * interval_seconds + offset
    return slot if slot > after else slot + interval_seconds  # rounding may end on `after` itself


def slots_between(name: str, interval_seconds: float, start: float, end: float) -> int:
    """How many moments of the grid lie after `start` and not after `end`."""
    if end <= start:
        return 0
    offset = fraction(name) * interval_seconds
    return floor((end - offset) / interval_seconds) - floor((start - offset) / interval_seconds)
