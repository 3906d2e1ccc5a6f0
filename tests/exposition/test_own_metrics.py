"""The exporter's numbers about itself, judged when the page is read."""

from exporter.exposition import Exposition
from exporter.model import CHECK, CircuitStatus, Kind, Metric, Outcome, Reading, Run
from exporter.state import State, Watched

UP = Metric("pg_up", Kind.GAUGE, "Whether it is up.")
OVERDUE = 'sidecar_probe_overdue{probe="a"}'
HEARTBEAT = "sidecar_scheduler_heartbeat_timestamp_seconds"
LAG = "sidecar_event_loop_lag_seconds"


class Own:
    """A state with one probe, checked every 10 s within 5 s, and its page."""

    def __init__(self, **watched: object) -> None:
        self.state = State(0.0, 1e9)
        self.state.add(Watched("a", "postgres", UP, (("probe", "a"),), 10.0, 5.0, **watched), 0.0)  # type: ignore[arg-type]
        self._exposition = Exposition({}, tuple)

    def samples(self, now: float) -> dict[str, float]:
        page = self._exposition.render(self.state.snapshot(), now, openmetrics=False).decode()
        lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        return {series: float(value) for series, _, value in lines}

    def checked(self, moment: float) -> None:
        record = self.state.of("a")
        record.take(Run(CHECK, Outcome.SUCCESS, moment, 1e9 + moment, 0.003, reading=Reading()), 30.0)
        record.plan(moment, moment + 10.0, CircuitStatus(), None)


def test_overdue_is_told_from_the_moment_on_although_nothing_happens() -> None:
    """A dead scheduler changes nothing any more, so only the reading of the page can tell."""
    own = Own()
    own.checked(1.0)
    last_moment = 1.0 + 10.0 + 5.0 + 2 * 10.0  # planned, its timeout, two intervals
    assert own.samples(1.0)[OVERDUE] == 0
    assert own.samples(last_moment)[OVERDUE] == 0
    assert own.samples(last_moment + 0.1)[OVERDUE] == 1
    own.checked(40.0)
    assert own.samples(40.0)[OVERDUE] == 0


def test_what_does_not_run_by_decision_is_not_overdue() -> None:
    """An alert on it must not wake somebody for a probe that was switched off."""
    assert Own(enabled=False).samples(1e6)[OVERDUE] == 0


def test_the_heartbeat_is_told_once_there_was_one() -> None:
    """`time() - sidecar_scheduler_heartbeat_timestamp_seconds` is how long the scheduler has been silent."""
    own = Own()
    assert HEARTBEAT not in own.samples(0.5)
    own.state.beat(5.0, 0.25, 1e9 + 5.0)
    later = own.samples(6.0)
    assert (later[HEARTBEAT], later[LAG]) == (1e9 + 5.0, 0.25)
