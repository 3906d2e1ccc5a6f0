"""The health bodies as text for a terminal: one line a probe, worst first, columns aligned. Pure; judges nothing."""

from exporter.health import ProbeHealth
from exporter.model import Status
from exporter.web.wording import View, aggregate_since, clock, explanation, is_waiting, span, took

MARKERS = {Status.HEALTHY: "[+]", Status.DEGRADED: "[~]", Status.UNHEALTHY: "[-]", Status.UNKNOWN: "[?]"}

_GAP = "  "


def health_text(view: View) -> str:
    """The aggregate's line, then the probes'."""
    return "\n".join([_headline(view), *_lines(view.report.probes, view), ""])


def probe_text(health: ProbeHealth, view: View) -> str:
    """One probe's line."""
    return "\n".join([*_lines((health,), view), ""])


def _headline(view: View) -> str:
    report = view.report
    words = [str(report.status)]
    since = aggregate_since(report)
    if since is not None:
        words.append(f"since {clock(since, view.wall)}")
    if report.root_causes:
        label = "root cause" if len(report.root_causes) == 1 else "root causes"
        words.append(f"{label}: {', '.join(report.root_causes)}")
    return _GAP.join(words)


def _lines(probes: tuple[ProbeHealth, ...], view: View) -> list[str]:
    name_width = max((len(health.probe.name) for health in probes), default=0)
    status_width = max((len(health.status) for health in probes), default=0)
    return [
        f"{MARKERS[health.status]} {health.probe.name:<{name_width}}{_GAP}{health.status:<{status_width}}{_GAP}"
        + _GAP.join(_facts(health, view))
        for health in probes
    ]


def _facts(health: ProbeHealth, view: View) -> list[str]:
    """Why, for how long, when last looked at, and when next if that is not the plain schedule."""
    probe = health.probe
    facts = [_finding(health, view)]
    if not probe.enabled:
        return facts
    if health.status not in (Status.HEALTHY, Status.UNKNOWN) and probe.since is not None:
        facts.append(f"for {span(view.age(probe.since))}")
    if probe.last_run is not None:
        facts.append(f"checked {span(view.age(probe.last_run))} ago")
    if is_waiting(health):
        facts.append(f"next {span((probe.circuit.next_attempt or 0.0) - view.now)}")
    return facts


def _finding(health: ProbeHealth, view: View) -> str:
    if health.status is not Status.HEALTHY:
        return explanation(health, view)
    return took(health.probe.duration_seconds or 0.0)
