"""What the page says of the exporter itself: none of it decides /livez but for its two conditions. Pure."""

from dataclasses import dataclass

from exporter.errors import MESSAGE_LENGTH
from exporter.health import HEARTBEAT_SECONDS, LAG_SECONDS
from exporter.model import Reload, Snapshot
from exporter.secret import one_line
from exporter.web.wording import View, clock, listing, span, took

_MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing to say; `wrong` where it needs somebody's eye. The text is not escaped."""

    name: str
    text: str
    wrong: bool = False


def own_facts(snapshot: Snapshot, view: View) -> tuple[Fact, ...]:
    """Heartbeat and lag of the loop, runs that are overdue or were abandoned, and the configuration that is in force."""
    return (_heartbeat(snapshot, view), _lag(snapshot), _overdue(view), _abandoned(snapshot), _configuration(snapshot.reload, view))


def _heartbeat(snapshot: Snapshot, view: View) -> Fact:
    silent = view.age(snapshot.beat)
    return Fact("heartbeat", f"{span(silent)} ago", silent > HEARTBEAT_SECONDS)


def _lag(snapshot: Snapshot) -> Fact:
    if not snapshot.lags:
        return Fact("loop lag", "not measured yet")
    most = max(snapshot.lags)
    text = f"{took(snapshot.lags[-1])}, at most {took(most)} in the last {span(len(snapshot.lags))}"
    return Fact("loop lag", text, most >= LAG_SECONDS)


def _overdue(view: View) -> Fact:
    names = [health.probe.name for health in view.report.probes if health.stale]
    return Fact("overdue", listing(names, _MOST_NAMES) or "none", bool(names))


def _abandoned(snapshot: Snapshot) -> Fact:
    counts = [f"{tally.name} {tally.abandoned}" for tally in snapshot.tallies if tally.abandoned]
    return Fact("abandoned runs", listing(counts, _MOST_NAMES) or "none")


def _configuration(reload: Reload, view: View) -> Fact:
    at = clock(reload.at, view.wall)
    if reload.successful:
        return Fact("configuration", f"loaded {at}")
    why = f": {one_line(reload.message, MESSAGE_LENGTH)}" if reload.message and view.details else ""
    return Fact("configuration", f"the last reload failed{why}; that of {at} is in force", wrong=True)
