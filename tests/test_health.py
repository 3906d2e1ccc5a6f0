"""Confirmation, aggregate and root causes: pure values in, verdict out."""

import pytest

from exporter.health import BLIND_SECONDS, confirm, failing_self_check, report
from exporter.model import CircuitState, CircuitStatus, ProbeStatus, Reason, Snapshot, Status

H, D, U, X = Status.HEALTHY, Status.DEGRADED, Status.UNHEALTHY, Status.UNKNOWN


@pytest.mark.parametrize(
    ("confirmed", "checks", "expected"),
    [
        (X, [H], H),
        (X, [D], D),
        (X, [U], X),
        (X, [U, U], U),
        (X, [U, H], H),
        (H, [H, U], H),
        (H, [U, U], U),
        (H, [U, D], D),
        (H, [D, U], D),
        (H, [H, D], H),
        (U, [U, H], U),
        (U, [H, H], H),
        (U, [D, H], D),
        (D, [H, U], D),
        (D, [U, U], U),
        (D, [H, H], H),
    ],
)
def test_status_is_confirmed_by_the_last_two_checks(confirmed: Status, checks: list[Status], expected: Status) -> None:
    """To worse the best of the last, to better the worst of the last, before any verdict the first non-failure at once."""
    assert confirm(confirmed, checks, 2, 2) is expected


def test_thresholds_differ_by_direction() -> None:
    """Quick to alarm, slow to calm down, and the other way round."""
    assert confirm(H, [U], 1, 3) is U
    assert confirm(U, [U, H, H], 1, 3) is U
    assert confirm(U, [H, H, H], 1, 3) is H


def snapshot(*probes: ProbeStatus, now: float = 100.0) -> Snapshot:
    return Snapshot(generation=1, started=0.0, probes=probes, beat=now)


def probe(name: str, status: Status, **more: object) -> ProbeStatus:
    return ProbeStatus(name, "http", status=status, failing=more.pop("failing", status is U), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        ([probe("a", H), probe("b", H)], H),
        ([probe("a", H), probe("b", D)], D),
        ([probe("a", H), probe("b", U)], U),
        ([probe("a", H), probe("b", U, critical=False)], D),
        ([probe("a", H), probe("b", X)], X),
        ([probe("a", H), probe("b", X, critical=False)], D),
        ([probe("a", U), probe("b", X)], U),
        ([probe("a", H), probe("b", X, enabled=False)], H),
        ([probe("a", H), probe("b", U, circuit=CircuitStatus(CircuitState.FORCED_OPEN, 200.0))], H),
        ([], X),
    ],
)
def test_aggregate_is_the_worst_that_counts(probes: list[ProbeStatus], expected: Status) -> None:
    """A critical unknown is unknown, another one degrades, what does not run by decision does not count."""
    assert report(snapshot(*probes), 100.0).status is expected


def test_an_overdue_probe_is_unknown_whatever_it_last_was() -> None:
    """A dead scheduler cannot stay green."""
    health = report(snapshot(probe("a", H, overdue=99.0)), 100.0).probes[0]
    assert (health.status, health.stale) == (X, True)


def test_long_rate_limited_is_unknown() -> None:
    """After fifteen minutes nobody knows any more how the target is."""
    limited = probe("a", D, reason=Reason.RATE_LIMITED, since=-9999.0, limited_since=0.0)
    assert report(snapshot(limited), BLIND_SECONDS - 1).probes[0].status is D
    assert report(snapshot(limited), BLIND_SECONDS + 1).probes[0].status is X


def test_the_root_is_the_topmost_that_is_down() -> None:
    """One broken broker is one cause, not three alarms; a healthy probe in between does not hide it."""
    told = report(
        snapshot(
            probe("broker", U),
            probe("middle", H, depends_on=("broker",)),
            probe("worker", U, depends_on=("middle",)),
            probe("other", U),
        ),
        100.0,
    )
    assert told.root_causes == ("broker", "other")
    causes = {health.probe.name: health.caused_by for health in told.probes}
    assert causes == {"broker": (), "middle": (), "worker": ("broker",), "other": ()}


def test_an_ancestor_whose_last_check_failed_counts_before_it_is_confirmed() -> None:
    """The child is often confirmed first; it must not look like the root meanwhile."""
    told = report(snapshot(probe("broker", H, failing=True), probe("worker", U, depends_on=("broker",))), 100.0)
    assert told.root_causes == ()
    assert told.find("worker") is not None
    assert told.find("worker").caused_by == ("broker",)  # type: ignore[union-attr]


def test_an_ancestor_that_nobody_looks_at_is_no_cause() -> None:
    """It was down when it was last looked at, which is too long ago to blame it."""
    told = report(snapshot(probe("broker", U, overdue=99.0), probe("worker", U, depends_on=("broker",))), 100.0)
    assert told.root_causes == ("worker",)
    assert [health.caused_by for health in told.probes] == [(), ()]


def test_probes_stand_worst_first_and_what_does_not_count_last() -> None:
    """At 3 a.m. the first line is the one that matters."""
    told = report(
        snapshot(probe("off", X, enabled=False), probe("ok", H), probe("new", X), probe("slow", D), probe("bad", U)), 100.0
    )
    assert [health.probe.name for health in told.probes] == ["bad", "new", "slow", "ok", "off"]


def test_excluded_probes_leave_aggregate_and_causes() -> None:
    """`?exclude=` is for the one that is known to be down."""
    told = report(snapshot(probe("a", H), probe("b", U)), 100.0, {"b", "nobody"})
    assert (told.status, told.root_causes, len(told.probes)) == (H, (), 1)


def test_a_silent_scheduler_fails_the_self_check_and_targets_never_do() -> None:
    """livez speaks of this process alone."""
    down = Snapshot(generation=1, started=0.0, probes=(probe("a", U),), beat=100.0, lags=(6.0, 0.1, 6.0))
    assert failing_self_check(down, 110.0) is None
    assert failing_self_check(down, 131.0) == "scheduler: no heartbeat for 31s"
    lagging = Snapshot(generation=1, started=0.0, probes=(), beat=100.0, lags=(0.1, 5.0, 7.0, 6.0))
    assert failing_self_check(lagging, 100.0) == "loop: lagged 5.0s or more 3 samples running"
