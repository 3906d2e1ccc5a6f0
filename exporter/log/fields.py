"""What a log line is about, as fields of their own: the one place where they are named."""

from dataclasses import dataclass

from exporter.model import Reason, Status


@dataclass(frozen=True, slots=True)
class About:
    """The fields of one line, None where they do not apply. `duration_seconds` is how long what it tells of has taken,
    `suppressed` how many lines it stands for."""

    probe: str | None = None
    collector: str | None = None
    status: Status | None = None
    reason: Reason | None = None
    duration_seconds: float | None = None
    suppressed: int | None = None

    @property
    def subject(self) -> str:
        """`db` or `db/locks`; empty where the line is about no probe."""
        return "/".join(filter(None, (self.probe, self.collector)))


def about(
    probe: str | None = None,
    collector: str | None = None,
    *,
    status: Status | None = None,
    reason: Reason | None = None,
    duration_seconds: float | None = None,
) -> dict[str, object]:
    """For `extra=`: `log.warning("it is down", extra=about("db"))`. The message does not name the probe again."""
    return {"about": About(probe, collector, status, reason, duration_seconds)}
