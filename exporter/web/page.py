"""The status page: what a person sees in a browser, without scripts and without anything from elsewhere.

Pure but for reading its template once, when it is made. Everything that comes from a target is escaped by the template.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from exporter.health import ProbeHealth
from exporter.model import Availability, CollectorStatus, Outcome, Recent, Snapshot, Status
from exporter.web.own_health import own_facts
from exporter.web.wording import View, aggregate_since, clock, explanation, finding, is_waiting, listing, percent, span, took

REFRESH_SECONDS = 10

_FOLDER = Path(__file__).parent / "templates"
_MOST_SENTENCES = 5
_MOST_DETAILS = 12
_MINUTE = 60
_HOUR = 60 * _MINUTE
_MOST_OF_A_DAY = 22 * _HOUR
_MARKS = {Status.HEALTHY: "✓", Status.DEGRADED: "~", Status.UNHEALTHY: "✕", Status.UNKNOWN: "?"}
_VERBS = {Status.UNHEALTHY: "is down", Status.DEGRADED: "is degraded", Status.UNKNOWN: "is unknown"}
# ready markup: a loop in the template takes three times as long as the rest of the page
_TICKS = {Outcome.SUCCESS: "<i></i>", Outcome.DEGRADED: '<i class="degraded"></i>', Outcome.FAILURE: '<i class="unhealthy"></i>'}
# the tab shows the status: a filled disc, ring, square or dot, in the page's colours
_ICONS = {
    Status.HEALTHY: "<circle cx='8' cy='8' r='6' fill='#1a7f4b'/>",
    Status.DEGRADED: "<circle cx='8' cy='8' r='5' fill='none' stroke='#b26a00' stroke-width='3'/>",
    Status.UNHEALTHY: "<rect x='2' y='2' width='12' height='12' rx='2' fill='#c62f2f'/>",
    Status.UNKNOWN: "<circle cx='8' cy='8' r='4' fill='#7a7f87'/>",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One probe as the table shows it; every text is ready but not escaped, empty where there is nothing to say.

    `ticks` alone is markup, of ours.
    """

    name: str
    type: str
    critical: bool
    status: str
    mark: str
    why: str
    note: str
    since: str
    lasting: str
    checked: str
    duration: str
    circuit: str
    countdown: str
    ticks: str
    ticked: str
    available: str
    part: str
    observed: str
    collectors: tuple[tuple[str, str], ...]
    detail: tuple[tuple[str, str], ...]


class Page:
    """The compiled template and the headers that guard it."""

    def __init__(self, version: str) -> None:
        # autoescape for every template, whatever its name
        environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        environment.lstrip_blocks = True
        self._template = environment.get_template("status.html")
        self._style = (_FOLDER / "style.css").read_text(encoding="utf-8")
        self._version = version
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self.headers = {
            # the style stands in the page and is allowed by its hash: one request, and it works behind any path prefix
            "Content_Security_Policy": f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "X_Frame_Options": "DENY",
            "Referrer_Policy": "no-referrer",
        }

    def render(
        self,
        view: View,
        recent: Callable[[str], Recent],
        snapshot: Snapshot,
        root: str,
        only: ProbeHealth | None = None,
    ) -> bytes:
        """The page of all probes, or of `only` one. `recent` tells a probe's past; `root` is the relative path to `/`."""
        status = view.report.status if only is None else only.status
        shown = view.report.probes if only is None else (only,)
        return self._template.render(
            title=status if only is None else f"{only.probe.name} {status}",
            status=status,
            mark=_MARKS[status],
            icon=quote(f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>{_ICONS[status]}</svg>"),
            since=_since(view, only),
            sentences=_sentences(view, shown),
            tally=_tally(view) if only is None else "",
            rows=[_row(health, view, recent(health.probe.name)) for health in shown],
            only="" if only is None else only.probe.name,
            time=clock(view.wall, view.wall),
            uptime=span(view.age(snapshot.started)),
            own=own_facts(snapshot, view) if only is None else (),
            version=self._version,
            details=view.details,
            root=root,
            refresh_seconds=REFRESH_SECONDS,
            style=self._style,
        ).encode("utf-8", "replace")


def _since(view: View, only: ProbeHealth | None) -> str:
    at = aggregate_since(view.report) if only is None else only.probe.since_at
    return "" if at is None else clock(at, view.wall)


def _tally(view: View) -> str:
    """`1 unhealthy, 4 healthy, 1 disabled`, worst first."""
    counts = Counter(str(health.status) if health.counted else explanation(health, view) for health in view.report.probes)
    return ", ".join(f"{count} {standing}" for standing, count in counts.items())


def _sentences(view: View, shown: tuple[ProbeHealth, ...]) -> list[str]:
    """What is wrong, causes before consequences; or that nothing is."""
    roots = [health for health in shown if health.probe.name in view.report.root_causes]
    lacking = [health for health in shown if health.counted and health.status is not Status.HEALTHY]
    told = [_sentence(health, view) for health in roots or lacking]
    if len(told) > _MOST_SENTENCES:
        return [*told[:_MOST_SENTENCES], f"and {len(told) - _MOST_SENTENCES} more, below."]
    if not told and shown and any(health.counted for health in shown):
        healthy = "Every probe is healthy." if len(shown) > 1 else f"{shown[0].probe.name} is healthy."
        unread = [
            (health.probe.name, [one.name for one in _failing(health.probe.collectors)]) for health in shown if health.counted
        ]
        return [healthy, *(f"{name} cannot read {listing(names, 5)}; see below." for name, names in unread if names)]
    return told or ["Nothing is being probed."]


def _sentence(health: ProbeHealth, view: View) -> str:
    """`rabbitmq is down since 04:02:52Z: refused: …; celery waits on it.`"""
    probe = health.probe
    since = "" if probe.since_at is None or health.stale else f" since {clock(probe.since_at, view.wall)}"
    waiting = [other.probe.name for other in view.report.probes if probe.name in other.caused_by]
    on_it = f"; {listing(waiting, 5)} {'waits' if len(waiting) == 1 else 'wait'} on it" if waiting else ""
    why = explanation(health, view)
    return f"{probe.name} {_VERBS[health.status]}{since}{f': {why}' if why else ''}{on_it}."


def _row(health: ProbeHealth, view: View, recent: Recent) -> Row:
    probe = health.probe
    caused = bool(health.caused_by) and health.status is Status.UNHEALTHY
    return Row(
        name=probe.name,
        type=probe.type,
        critical=probe.critical,
        status=health.status,
        mark=_MARKS[health.status],
        why=explanation(health, view),
        note=finding(health, view) if caused else "",
        since="" if probe.since_at is None else clock(probe.since_at, view.wall),
        lasting="" if probe.since is None else span(view.age(probe.since)),
        checked="" if probe.last_run is None else f"{span(view.age(probe.last_run))} ago",
        duration="" if probe.duration_seconds is None else took(probe.duration_seconds),
        circuit=probe.circuit.state.replace("_", " ") if probe.enabled else "",
        countdown=f"next in {span((probe.circuit.next_attempt or 0.0) - view.now)}" if is_waiting(health) else "",
        ticks="".join([_TICKS[outcome] for outcome in recent.outcomes]),
        ticked=_ticked(recent),
        available=percent(recent.availability["24h"].ratio),
        part=_part(recent.availability["24h"].observed_seconds),
        observed=_observed(recent.availability),
        collectors=_failures(probe.collectors, view),
        detail=tuple((str(key), _fact(value)) for key, value in list(probe.detail.items())[:_MOST_DETAILS]) if view.details else (),
    )


def _ticked(recent: Recent) -> str:
    """`last 30 checks: 2 failed, 1 degraded`."""
    counts = Counter(recent.outcomes)
    told = [(Outcome.FAILURE, "failed"), (Outcome.DEGRADED, "degraded")]
    lacking = ", ".join(f"{counts[outcome]} {word}" for outcome, word in told if counts[outcome])
    several = "last check" if len(recent.outcomes) == 1 else f"last {len(recent.outcomes)} checks"
    return f"{several}: {lacking or 'good'}" if recent.outcomes else ""


def _part(observed_seconds: float) -> str:
    """`of 6h` while a day's availability speaks of much less than a day."""
    unit = next((unit for unit in (_HOUR, _MINUTE) if observed_seconds >= unit), 1)
    return f"of {span(observed_seconds - observed_seconds % unit)}" if observed_seconds < _MOST_OF_A_DAY else ""


def _observed(availability: Mapping[str, Availability]) -> str:
    """`1h: 97.00%; 24h: 99.87% of 23h12m observed`."""
    told = [(window, one) for window, one in availability.items() if one.observed_seconds > 0]
    return "; ".join(f"{window}: {percent(one.ratio)} of {span(one.observed_seconds)} observed" for window, one in told)


def _failing(collectors: Iterable[CollectorStatus]) -> list[CollectorStatus]:
    return [collector for collector in collectors if collector.success is False]


def _failures(collectors: Iterable[CollectorStatus], view: View) -> tuple[tuple[str, str], ...]:
    """Names and reason of the collectors that fail, one line for all that fail alike: a server that is down fails every one."""
    alike: dict[str, list[CollectorStatus]] = {}
    for collector in _failing(collectors):
        message = view.message(collector.reason, collector.message)
        alike.setdefault(f"{collector.reason}: {message}" if message else str(collector.reason or "failed"), []).append(collector)
    return tuple(
        (listing([one.name for one in same], _MOST_DETAILS), f"{why} ({_last_success(same, view)})") for why, same in alike.items()
    )


def _last_success(collectors: list[CollectorStatus], view: View) -> str:
    """How old the oldest of what they last read is."""
    ages = [None if collector.last_success is None else view.age(collector.last_success) for collector in collectors]
    known = [age for age in ages if age is not None]
    return f"last success {span(max(known))} ago" if len(known) == len(ages) else "never succeeded"


def _fact(value: object) -> str:
    """A detail's value as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return listing([_fact(item) for item in value], _MOST_DETAILS) if value else "none"
    return str(value)
