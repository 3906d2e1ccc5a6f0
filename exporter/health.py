"""The verdict: which change is confirmed, how the aggregate stands, and which probe is at the root of it.

Pure: `now` is passed in, nothing is remembered here. Knows no probe type, no HTTP and no schedule.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.model import CircuitState, ProbeStatus, Snapshot, Status

BLIND_SECONDS = 15 * 60.0
"""A target that has kept us away by rate limits for so long is unknown, no longer degraded."""

HEARTBEAT_SECONDS = 30.0
LAG_SECONDS = 5.0
LAG_SAMPLES = 3

_SEVERITY = {Status.HEALTHY: 0, Status.DEGRADED: 1, Status.UNHEALTHY: 2}
_ORDER = {Status.UNHEALTHY: 0, Status.UNKNOWN: 1, Status.DEGRADED: 2, Status.HEALTHY: 3}


def confirm(confirmed: Status, checks: Sequence[Status], failure_threshold: int, success_threshold: int) -> Status:
    """The status after the last of `checks` (oldest first, as many as are remembered).

    To worse: the best of the last `failure_threshold`; to better: the worst of the last `success_threshold`; before any
    verdict the first non-failure counts at once.
    """
    last = checks[-1]
    if last is confirmed or (confirmed is Status.UNKNOWN and last is not Status.UNHEALTHY):
        return last
    best = _extreme(checks, failure_threshold, min)
    if best is not None and (confirmed is Status.UNKNOWN or _SEVERITY[best] > _SEVERITY[confirmed]):
        return best
    worst = _extreme(checks, success_threshold, max)
    if worst is not None and confirmed is not Status.UNKNOWN and _SEVERITY[worst] < _SEVERITY[confirmed]:
        return worst
    return confirmed


def _extreme(checks: Sequence[Status], count: int, choose: Callable[..., Status]) -> Status | None:
    return choose(checks[-count:], key=_SEVERITY.__getitem__) if len(checks) >= count else None


@dataclass(frozen=True, slots=True)
class ProbeHealth:
    """One probe as /health tells it: `status` is what holds at the moment of reading; `caused_by` names the roots above it."""

    probe: ProbeStatus
    status: Status
    stale: bool
    counted: bool
    caused_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The aggregate and its probes, worst first, causes before what they cause, those left out of the aggregate last."""

    status: Status
    root_causes: tuple[str, ...]
    probes: tuple[ProbeHealth, ...]

    def find(self, name: str) -> ProbeHealth | None:
        """The probe of that name or alias."""
        for health in self.probes:
            if name == health.probe.name or name in health.probe.aliases:
                return health
        return None


def report(snapshot: Snapshot, now: float, exclude: Collection[str] = ()) -> Report:
    """Judges every probe at `now` (monotonic seconds), leaving those named in `exclude` out altogether."""
    judged = {probe.name: _judge(probe, now) for probe in snapshot.probes if probe.name not in exclude}
    down = {name for name, health in judged.items() if _is_down(health)}
    above = {name: _ancestors(name, judged) for name in judged}
    top = {name for name in down if not above[name] & down}
    unhealthy = {name for name, health in judged.items() if health.status is Status.UNHEALTHY}
    caused = [
        replace(health, caused_by=tuple(sorted(above[name] & top))) if name in unhealthy else health
        for name, health in judged.items()
    ]
    probes = tuple(
        sorted(caused, key=lambda health: (not health.counted, _ORDER[health.status], bool(health.caused_by), health.probe.name))
    )
    return Report(_aggregate(probes), tuple(sorted(unhealthy & top)), probes)


def _judge(probe: ProbeStatus, now: float) -> ProbeHealth:
    if not probe.enabled or probe.circuit.state is CircuitState.FORCED_OPEN:
        return ProbeHealth(probe, Status.UNKNOWN, stale=False, counted=False)
    if now > probe.overdue:
        return ProbeHealth(probe, Status.UNKNOWN, stale=True, counted=True)
    blind = probe.limited_since is not None and now - probe.limited_since > BLIND_SECONDS
    return ProbeHealth(probe, Status.UNKNOWN if blind else probe.status, stale=False, counted=True)


def _is_down(health: ProbeHealth) -> bool:
    return health.counted and not health.stale and (health.status is Status.UNHEALTHY or health.probe.failing)


def _ancestors(name: str, judged: Mapping[str, ProbeHealth]) -> set[str]:
    """Everything that `name` depends on, directly or not; the configuration has no cycles, and one would end here too."""
    found: set[str] = set()
    ways = [name]
    while ways:
        for parent in judged[ways.pop()].probe.depends_on:
            if parent in judged and parent not in found:
                found.add(parent)
                ways.append(parent)
    return found


def _aggregate(probes: Collection[ProbeHealth]) -> Status:
    worst = {(health.status, health.probe.critical) for health in probes if health.counted}
    if (Status.UNHEALTHY, True) in worst:
        return Status.UNHEALTHY
    if (Status.UNKNOWN, True) in worst:
        return Status.UNKNOWN
    if not worst:
        return Status.UNKNOWN
    return Status.HEALTHY if {status for status, _ in worst} == {Status.HEALTHY} else Status.DEGRADED


def failing_self_check(snapshot: Snapshot, now: float) -> str | None:
    """What keeps this process from being alive, in one line, or None. Speaks of no target."""
    silent = now - snapshot.beat
    if silent > HEARTBEAT_SECONDS:
        return f"scheduler: no heartbeat for {silent:.0f}s"
    last = snapshot.lags[-LAG_SAMPLES:]
    if len(last) == LAG_SAMPLES and min(last) >= LAG_SECONDS:
        return f"loop: lagged {min(last):.1f}s or more {LAG_SAMPLES} samples running"
    return None
