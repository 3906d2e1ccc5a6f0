"""What is known right now: the one mutable thing between the schedule, which writes, and the readers, who get snapshots.

Everything runs on one event loop, so nothing here is locked. Knows no clock (moments are passed in), no network, no HTTP.
"""

from collections import deque
from itertools import count

from exporter.model import History, Recent, Reload, Snapshot
from exporter.state.record import Live, Record, Tallies, Watched

LAG_SAMPLES = 60
MOST_GONE = 100
"""Removed probes whose counts are kept, in case they come back."""

__all__ = ["Live", "Record", "State", "Watched"]


class State:
    """One writer (the schedule, by way of a record for each probe), many readers.

    `now` is monotonic seconds everywhere, `wall` Unix seconds.
    """

    def __init__(self, now: float, wall: float) -> None:
        self._records: dict[str, Record] = {}
        self._tallies: dict[str, Tallies] = {}  # also of names that are gone: a probe that comes back counts on
        self._numbers = count(1)
        self._generation = 0
        self._beat = now
        self._beat_at: float | None = None
        self._started = now
        self._lags: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._reload = Reload(successful=True, at=wall)

    def add(self, watched: Watched, now: float, wall: float = 0.0) -> Record:
        """A probe exists from now on, a disabled one too. One of its name makes room; what was counted under the name counts on,
        and what is remembered of it is not forgotten."""
        tallies = self._tallies.setdefault(watched.name, Tallies())
        record = Record(watched, now, self._numbers.__next__, self._stood, tallies)
        if watched.name in self._records:
            record.inherit(self._records[watched.name], now, wall)
        self._records[watched.name] = record
        self._stood()
        return record

    def remove(self, name: str) -> None:
        """The probe is seen no more, from this moment on."""
        del self._records[name]
        self._tallies[name] = self._tallies.pop(name)  # the last to be forgotten
        gone = (known for known in self._tallies if known not in self._records)
        for forgotten in list(gone)[:-MOST_GONE]:
            del self._tallies[forgotten]
        self._stood()

    def of(self, name: str) -> Record:
        """The probe's record."""
        return self._records[name]

    def abandoned(self, name: str) -> None:
        """A task of that probe, which may be gone by now, outlived its cancellation."""
        if name in self._records:
            self._records[name].abandoned()
        else:
            self._tallies.setdefault(name, Tallies()).abandoned += 1

    def reloaded(self, wall: float) -> None:
        """A configuration has taken effect."""
        self._reload = Reload(successful=True, at=wall)

    def not_reloaded(self, message: str) -> None:
        """A configuration could not be used: the one before goes on. `message` is one safe line."""
        self._reload = Reload(successful=False, at=self._reload.at, message=message)

    def beat(self, now: float, lag_seconds: float, wall: float) -> None:
        """The scheduler is alive; its last wake-up came `lag_seconds` late."""
        self._beat, self._beat_at = now, wall
        self._lags.append(lag_seconds)

    def snapshot(self) -> Snapshot:
        views = [record.views() for record in self._records.values()]
        return Snapshot(
            generation=self._generation,
            started=self._started,
            probes=tuple(status for status, _ in views),
            beat=self._beat,
            beat_at=self._beat_at,
            lags=tuple(self._lags),
            tallies=tuple(tally for _, tally in views),
            reload=self._reload,
        )

    def recent(self, name: str, now: float) -> Recent:
        """The probe's past at a glance."""
        return self._records[name].past.recent(now)

    def history(self, name: str, now: float) -> History:
        """All that is remembered of the probe."""
        return self._records[name].past.history(now)

    def _stood(self) -> None:
        self._generation += 1
