"""Whether what is sent to the event stream is heard. Pure: moments are passed in, monotonic seconds."""

from exporter.model import Family
from exporter.probes.celery.metrics import EVENT_PATH_UP

LOST_SECONDS = 5.0
"""After so long without anything heard the path counts as lost."""


class EventPath:
    """The way from a publisher to our ear; mutable. `up` is None before anything is known."""

    def __init__(self) -> None:
        self.up: bool | None = None
        self.since: float | None = None
        """Since when it has been up without a gap; None while it is not."""
        self.why = ""
        self.version = 0

    def prove(self, now: float) -> None:
        """What we sent has come back."""
        if not self.up:
            self.up, self.since, self.why = True, now, ""
            self.version += 1

    def lose(self, why: str) -> None:
        """Nothing comes any more, for a reason that is safe to show."""
        if self.up is not False or self.why != why:
            self.up, self.since, self.why = False, None, why
            self.version += 1

    def families(self) -> tuple[Family, ...]:
        return () if self.up is None else (Family(EVENT_PATH_UP, (((), int(self.up)),)),)

    @property
    def told(self) -> str:
        """For /health."""
        if self.up is None:
            return "not heard yet"
        return "heard" if self.up else f"deaf: {self.why}"
