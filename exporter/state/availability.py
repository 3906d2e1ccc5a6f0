"""How long a probe's status was known, and how long it was good, in the last hour and day. Knows no status and no clock.

Exact to a millisecond a minute, however often a status changes: time is added up minute by minute, never counted by checks. Of
the one minute that a window's edge cuts, the part within is taken to be like the whole. 5.8 KB a probe.
"""

from array import array
from collections.abc import Mapping

from exporter.model import Availability

WINDOWS: Mapping[str, int] = {"1h": 60, "24h": 1440}
"""Minutes of each window."""

_LONGEST = max(WINDOWS.values())
_MINUTE = 60.0
_MILLISECONDS = 1000.0  # a minute's fit into 16 bits


class Seconds:
    """Seconds out of the last minutes: the minute that is open, those that have ended, and their sum for each window; mutable."""

    __slots__ = ("_ended", "_sums", "open")

    def __init__(self) -> None:
        self.open = 0.0
        self._ended = array("H", bytes(2 * _LONGEST))
        self._sums = dict.fromkeys(WINDOWS.values(), 0)

    def end(self, minute: int) -> None:
        """The open minute, of that number, has ended."""
        milliseconds = round(self.open * _MILLISECONDS)
        for window in self._sums:
            self._sums[window] += milliseconds - self._ended[(minute - window) % _LONGEST]
        self._ended[minute % _LONGEST] = milliseconds
        self.open = 0.0

    def within(self, window: int, minute: int, share: float) -> float:
        """Seconds in so many minutes up to now, of which the open one, of that number, has passed to this share."""
        outside = self._ended[(minute - window) % _LONGEST] * share
        return (self._sums[window] - outside) / _MILLISECONDS + self.open


class Observed:
    """Adds up the time for which a probe's status was known, and was good; mutable. `now` never goes back."""

    __slots__ = ("_at", "_good", "_is_good", "_known", "_minute", "_until")

    def __init__(self, now: float) -> None:
        self._at = now
        self._minute = _minute(now)
        self._until = now
        self._is_good = False
        self._known = Seconds()
        self._good = Seconds()

    def stand(self, now: float, until: float, *, good: bool) -> None:
        """From `now` on the status is known, and good or not, until `until`; it is not known where that has passed."""
        if (until, good) != (self._until, self._is_good):  # else time goes on as it did
            self._pass(now)
            self._until, self._is_good = until, good

    def availability(self, now: float) -> dict[str, Availability]:
        """By window, up to `now`."""
        self._pass(now)
        share = self._at / _MINUTE - self._minute
        return {
            name: Availability(
                self._good.within(window, self._minute, share),
                self._known.within(window, self._minute, share),
            )
            for name, window in WINDOWS.items()
        }

    def _pass(self, now: float) -> None:
        """Lets the time up to `now` pass, with the status as it stands."""
        if _minute(now) - self._minute > _LONGEST:
            self._forget(_minute(now) - _LONGEST)
        while self._minute < _minute(now):
            self._add((self._minute + 1) * _MINUTE)
            self._known.end(self._minute)
            self._good.end(self._minute)
            self._minute += 1
        self._add(now)

    def _add(self, end: float) -> None:
        """The time from where we are to `end`, which lies within the open minute."""
        known = max(0.0, min(end, self._until) - self._at)
        self._known.open += known
        if self._is_good:
            self._good.open += known
        self._at = max(self._at, end)

    def _forget(self, minute: int) -> None:
        """Everything before that minute has left the longest window."""
        self._known, self._good = Seconds(), Seconds()
        self._at, self._minute = minute * _MINUTE, minute


def _minute(moment: float) -> int:
    return int(moment // _MINUTE)
