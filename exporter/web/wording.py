"""How moments and spans read to a person, and what is said of one probe. Pure; knows no form of output."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from exporter.errors import MESSAGE_LENGTH
from exporter.health import ProbeHealth, Report
from exporter.model import CircuitState, Reason, Status
from exporter.secret import one_line

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class View:
    """A report, the moment it is read at (`now` monotonic, `wall` Unix seconds), and whether the reader may see details."""

    report: Report
    now: float
    wall: float
    details: bool

    def age(self, moment: float) -> float:
        """Seconds since a monotonic moment, never negative."""
        return max(0.0, self.now - moment)

    def message(self, reason: Reason | None, message: str | None) -> str | None:
        """A message as this reader may see it: one line that holds nothing a terminal would obey."""
        return one_line(message, MESSAGE_LENGTH) if self.details and reason is not None and message else None


def span(seconds: float) -> str:
    """`4s`, `2m14s`, `3h5m`, `2d7h`: the two largest units, whole seconds."""
    whole = int(max(0.0, seconds))
    for unit, larger, smaller in ((_DAY, "d", "h"), (_HOUR, "h", "m"), (_MINUTE, "m", "s")):
        if whole >= unit:
            rest = whole % unit // {"h": _HOUR, "m": _MINUTE, "s": 1}[smaller]
            return f"{whole // unit}{larger}{rest}{smaller}" if rest else f"{whole // unit}{larger}"
    return f"{whole}s"


def took(seconds: float) -> str:
    """`0.31ms`, `3.1ms`, `42ms`, `1.2s`: a duration with two digits that matter."""
    milliseconds = seconds * 1000
    for bound, digits in ((1, 2), (10, 1), (1000, 0)):
        if round(milliseconds, digits) < bound:
            return f"{milliseconds:.{digits}f}ms"
    return f"{seconds:.1f}s"


def percent(ratio: float | None) -> str:
    """`99.95%`, rounded down, so that 100% is what it says; empty for None."""
    if ratio is None:
        return ""
    hundredths = math.floor(ratio * 10_000 + 1e-6)
    return "100%" if hundredths >= 10_000 else f"{hundredths / 100:.2f}%"


def clock(at: float, wall: float) -> str:
    """The UTC time of a Unix moment, with its date once that is a day or more before `wall`: `04:02:52Z`."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%H:%M:%SZ" if wall - at < _DAY else "%Y-%m-%dT%H:%M:%SZ")


def listing(names: Sequence[str], most: int = 50) -> str:
    """`a, b, c`, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def explanation(health: ProbeHealth, view: View) -> str:
    """Why a probe stands as it does, in a few words; empty when it is healthy."""
    if not health.counted:
        return "circuit forced open" if health.probe.enabled else "disabled"
    if health.stale:
        return "overdue"
    if health.status is Status.HEALTHY:
        return ""
    if health.caused_by:
        return f"caused by {listing(health.caused_by)}"
    return finding(health, view) or ("not checked yet" if health.probe.last_run is None else "no verdict yet")


def finding(health: ProbeHealth, view: View) -> str:
    """The probe's own `reason: message`, as far as the reader may see it; empty when it has none."""
    probe = health.probe
    if probe.reason is None:
        return ""
    message = view.message(probe.reason, probe.message)
    return f"{probe.reason}: {message}" if message else str(probe.reason)


def is_waiting(health: ProbeHealth) -> bool:
    """Whether its circuit stretches the schedule, so that the next attempt is worth telling."""
    circuit = health.probe.circuit
    return circuit.state is not CircuitState.CLOSED and circuit.next_attempt is not None


def aggregate_since(report: Report) -> float | None:
    """Unix moment since when the aggregate is known to stand as it does; None where that is not known.

    Unhealthy: since the first of the critical probes that are down now went down. Healthy: since the last probe came back.
    Degraded: since the first of those not healthy now left health, but not before the last change of a critical one, which
    may have been down until then. Unknown has no such moment.
    """
    counted = [health for health in report.probes if health.counted and not health.stale]
    if report.status is Status.UNHEALTHY:
        down = [health for health in counted if health.status is Status.UNHEALTHY and health.probe.critical]
        return min(_changes(down), default=None)
    if report.status is Status.HEALTHY:
        return max(_changes(counted), default=None)
    if report.status is Status.DEGRADED:
        lacking = [health for health in counted if health.status is not Status.HEALTHY]
        critical = [health for health in counted if health.probe.critical]
        return max(_changes(critical) + sorted(_changes(lacking))[:1], default=None)
    return None


def _changes(probes: Sequence[ProbeHealth]) -> list[float]:
    return [health.probe.since_at for health in probes if health.probe.since_at is not None]
