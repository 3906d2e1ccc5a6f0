"""The page: what text stands there, what leaves, what is rendered again."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition import Exposition
from exporter.exposition.lines import header, lines, number
from exporter.exposition.process import Process
from exporter.model import CHECK, CircuitStatus, Distribution, Family, Kind, Metric, Outcome, Reading, Reason, Run, Skip
from exporter.state import MOST_GONE, Live, State, Watched

UP = Metric("pg_up", Kind.GAUGE, "Whether it is up.")
SIZE = Metric("pg_database_size_bytes", Kind.GAUGE, "Bytes on disk.", ("datname",))
COMMITS = Metric("pg_stat_database_xact_commit", Kind.COUNTER, "Commits.", ("datname",))
TRADES = Metric("trades_executed_total", Kind.COUNTER, 'Trades "executed".\nBy symbol.', ("symbol",))


def run(collector: str, moment: float, *families: Family, outcome: Outcome = Outcome.SUCCESS, **more: object) -> Run:
    reading = Reading(families) if families or outcome is Outcome.SUCCESS else None
    return Run(collector, outcome, moment, 1e9 + moment, 0.003, reading=reading, **more)  # type: ignore[arg-type]


NO_LIVE = Live(pool=lambda: None, counters=lambda: (0, ()))


class Page:
    """A state with probes and its page."""

    def __init__(self, *names: str, **watched: object) -> None:
        self.state = State(0.0, 1e9)
        for name in names:
            labels = (("probe", name), ("env", "prod"))
            self.state.add(Watched(name, "postgres", UP, labels, 10.0, 5.0, **watched), 0.0)  # type: ignore[arg-type]
        self.exposition = Exposition({"env": "prod"}, tuple)

    def text(self, now: float = 1.0, *, openmetrics: bool = False, probe: str | None = None) -> str:
        return self.exposition.render(self.state.snapshot(), now, openmetrics=openmetrics, probes=[probe] if probe else []).decode()

    def samples(self, now: float = 1.0, *prefixes: str) -> dict[str, str]:
        """Sample lines that begin with one of the prefixes, by series."""
        found = (line.rpartition(" ") for line in self.text(now).splitlines() if line.startswith(prefixes))
        return {series: value for series, _, value in found}


def test_one_header_however_many_probes() -> None:
    """HELP and TYPE once, samples of all probes together: interleaved families are refused by parsers."""
    page = Page("a", "b")
    for name in ("a", "b"):
        page.state.of(name).take(run(CHECK, 1.0, Family(SIZE, ((("x",), 7), (("y",), 8.5)))), 30.0)
    wanted = [
        "# HELP pg_database_size_bytes Bytes on disk.",
        "# TYPE pg_database_size_bytes gauge",
        'pg_database_size_bytes{probe="a",env="prod",datname="x"} 7',
        'pg_database_size_bytes{probe="a",env="prod",datname="y"} 8.5',
        'pg_database_size_bytes{probe="b",env="prod",datname="x"} 7',
        'pg_database_size_bytes{probe="b",env="prod",datname="y"} 8.5',
    ]
    assert [line for line in page.text().splitlines() if "pg_database_size" in line] == wanted


def test_openmetrics_differs_in_headers_and_end_alone() -> None:
    """Both formats share every sample line, so both are rendered at once."""
    page = Page("a")
    page.state.of("a").take(run(CHECK, 1.0, Family(TRADES, ((("BTC",), 3),)), Family(COMMITS, ((("x",), 4),))), 30.0)
    text, openmetrics = page.text(), page.text(openmetrics=True)
    assert [line for line in text.splitlines() if line[0] != "#"] == [line for line in openmetrics.splitlines() if line[0] != "#"]
    assert openmetrics.endswith("\n# EOF\n")
    assert '# HELP trades_executed_total Trades "executed".\\nBy symbol.\n# TYPE trades_executed_total counter' in text
    assert '# HELP trades_executed Trades \\"executed\\".\\nBy symbol.\n# TYPE trades_executed counter' in openmetrics
    assert "# TYPE pg_stat_database_xact_commit counter" in text
    assert "# TYPE pg_stat_database_xact_commit unknown" in openmetrics


def test_a_success_replaces_everything_and_a_failure_what_it_read() -> None:
    """A vanished row removes its series; a failed collection does not."""
    page = Page("a")
    page.state.of("a").attach(NO_LIVE, ["database"])
    page.state.of("a").take(run("database", 1.0, Family(SIZE, ((("x",), 1), (("y",), 2))), Family(COMMITS, ((("x",), 5),))), 30.0)
    page.state.of("a").take(
        run("database", 2.0, Family(SIZE, ((("x",), 9),)), outcome=Outcome.FAILURE, reason=Reason.TIMEOUT), 30.0
    )
    assert list(page.samples(2.0, "pg_").values()) == ["9", "5"]
    page.state.of("a").take(run("database", 3.0, Family(COMMITS, ((("x",), 6),))), 30.0)
    assert list(page.samples(3.0, "pg_").values()) == ["6"]


def test_series_leave_at_stale_after_and_up_does_not() -> None:
    """Nothing old is shown as new, yet a target that is down keeps saying so."""
    page = Page("a")
    page.state.of("a").take(run(CHECK, 1.0, Family(SIZE, ((("x",), 1),))), 30.0)
    assert len(page.samples(30.9, "pg_")) == 1
    page.state.of("a").take(run(CHECK, 20.0, outcome=Outcome.FAILURE, reason=Reason.REFUSED), 30.0)
    page.state.of("a").plan(20.0, 500.0, CircuitStatus(), None)
    assert page.samples(30.9, "pg_") == {
        'pg_database_size_bytes{probe="a",env="prod",datname="x"}': "1",
        'pg_up{probe="a",env="prod"}': "0",
    }
    assert page.samples(31.1, "pg_") == {'pg_up{probe="a",env="prod"}': "0"}
    overdue = 500.0 + 5.0 + 2 * 10.0
    assert page.samples(overdue - 0.1, "pg_up", "sidecar_probe_status")['pg_up{probe="a",env="prod"}'] == "0"
    late = page.samples(overdue + 0.1, "pg_up", "sidecar_probe_status")
    assert late['sidecar_probe_status{probe="a",env="prod",status="unknown"}'] == "1"
    assert not any(series.startswith("pg_up") for series in late)


def test_own_metrics_exist_from_start_up() -> None:
    """An alert on a counter that does not exist yet never fires."""
    page = Page("a", connections=3)
    text = page.text()
    for line in (
        'sidecar_probe_runs_total{probe="a",env="prod",outcome="failure"} 0',
        'sidecar_probe_info{probe="a",env="prod",type="postgres",critical="true"} 1',
        'sidecar_probe_skipped_total{probe="a",env="prod",reason="overlap"} 0',
        'sidecar_circuit_state{probe="a",env="prod",state="closed"} 1',
        'sidecar_circuit_transitions_total{probe="a",env="prod",from="closed",to="open"} 0',
        'sidecar_pool_max_connections{probe="a",env="prod"} 3',
        'sidecar_probe_duration_seconds_count{probe="a",env="prod"} 0',
        'sidecar_health_status{env="prod",status="unknown"} 1',
        'sidecar_config_last_reload_successful{env="prod"} 1',
    ):
        assert line + "\n" in text
    assert "sidecar_probe_up" not in text
    assert "sidecar_probe_last_run_timestamp_seconds{" not in text


def test_max_series_drops_whole_label_sets_last_in_sort_order_and_counts_them() -> None:
    """A mistaken query must not fill the memory of Prometheus."""
    page = Page("a", max_series=3)
    rows = tuple(((f"d{number}",), number) for number in (4, 1, 3, 0, 2))
    page.state.of("a").take(run(CHECK, 1.0, Family(SIZE, rows)), 30.0)
    page.state.of("a").take(run(CHECK, 1.0, Family(SIZE, rows)), 30.0)
    kept = page.samples(1.0, "pg_database", "sidecar_probe_series")
    assert sorted(series for series in kept if "pg_database" in series) == [
        f'pg_database_size_bytes{{probe="a",env="prod",datname="d{number}"}}' for number in (0, 1, 2)
    ]
    assert kept['sidecar_probe_series_dropped_total{probe="a",env="prod"}'] == "4"


def test_max_series_is_no_matter_of_who_came_first() -> None:
    """A runaway query must not push out the built-in names, which it would if arrival decided."""
    page = Page("a", max_series=4)
    page.state.of("a").attach(NO_LIVE, ["query", "settings"])
    runaway = Metric("z_rows", Kind.GAUGE, "Z.", ("n",))
    page.state.of("a").take(run("query", 1.0, Family(runaway, tuple(((f"r{n}",), n) for n in range(4)))), 30.0)
    page.state.of("a").take(run("settings", 1.0, Family(SIZE, ((("x",), 1), (("y",), 2)))), 30.0)
    assert list(page.samples(1.0, "pg_", "z_")) == [
        'pg_database_size_bytes{probe="a",env="prod",datname="x"}',
        'pg_database_size_bytes{probe="a",env="prod",datname="y"}',
        'z_rows{probe="a",env="prod",n="r0"}',
        'z_rows{probe="a",env="prod",n="r1"}',
    ]
    page.state.of("a").take(run("query", 2.0, Family(runaway, ((("r7",), 7),))), 30.0)
    assert list(page.samples(2.0, "z_").values()) == ["7"]


def test_max_series_holds_over_partial_readings_and_stale_series_leave_their_room() -> None:
    """A failed collection keeps what it did not read, and that counts; what is stale is seen by nobody and does not."""
    page = Page("a", max_series=3)
    page.state.of("a").attach(NO_LIVE, ["database"])
    old = Family(SIZE, tuple(((f"d{number}",), number) for number in range(2)))
    page.state.of("a").take(run("database", 1.0, old), 30.0)
    more = Family(COMMITS, tuple(((f"d{number}",), number) for number in range(3)))
    page.state.of("a").take(run("database", 2.0, more, outcome=Outcome.FAILURE, reason=Reason.TIMEOUT), 30.0)
    assert len(page.samples(2.0, "pg_stat", "pg_database")) == 3
    page.state.of("a").take(run(CHECK, 40.0, more), 30.0)
    assert list(page.samples(40.0, "pg_stat", "pg_database").values()) == ["0", "1", "2"]


def test_a_probe_that_recovers_after_being_overdue_is_no_longer_unknown() -> None:
    """Its standing is what it was before, so nothing but the time has changed."""
    page = Page("a")
    page.state.of("a").take(run(CHECK, 1.0), 30.0)
    unknown = 'sidecar_probe_status{probe="a",env="prod",status="unknown"}'
    assert page.samples(20.0, "sidecar_probe_status")[unknown] == "0"
    assert page.samples(100.0, "sidecar_probe_status")[unknown] == "1"
    page.state.of("a").take(run(CHECK, 101.0), 30.0)
    page.state.of("a").plan(101.0, 111.0, CircuitStatus(), None)
    assert page.samples(102.0, "sidecar_probe_status")[unknown] == "0"
    assert page.samples(200.0, "sidecar_probe_status")[unknown] == "1"


def test_a_probe_of_the_same_name_that_is_added_anew_shows_nothing_of_the_old() -> None:
    """Numbers of readings are never used twice."""
    page = Page("a")
    page.state.of("a").take(run(CHECK, 1.0, Family(SIZE, ((("x",), 1),))), 30.0)
    page.text()
    page.state.add(Watched("a", "postgres", UP, (("probe", "a"), ("env", "test")), 10.0, 5.0), 2.0)
    page.state.of("a").take(run(CHECK, 2.0, Family(SIZE, ((("x",), 2),))), 30.0)
    assert page.samples(2.0, "pg_database") == {'pg_database_size_bytes{probe="a",env="test",datname="x"}': "2"}


def test_probe_limits_the_page_to_one_probe() -> None:
    """`?probe=` is for a second scrape job."""
    page = Page("a", "b")
    text = page.text(probe="b")
    assert 'probe="b"' in text
    assert 'probe="a"' not in text
    assert "sidecar_health_status" not in text


def test_a_family_nothing_has_changed_keeps_its_bytes() -> None:
    """A scrape of ten thousand series must not render ten thousand lines."""
    page = Page("a", "b")
    for name in ("a", "b"):
        page.state.of(name).take(run(CHECK, 1.0, Family(SIZE, ((("x",), 1),))), 30.0)
    page.text()
    before = page.exposition._families["pg_database_size_bytes"].samples()
    page.text()
    assert page.exposition._families["pg_database_size_bytes"].samples() is before
    page.state.of("a").take(run(CHECK, 2.0, Family(SIZE, ((("x",), 2),))), 30.0)
    page.text()
    assert page.exposition._families["pg_database_size_bytes"].samples() is not before


def test_root_cause_is_the_probe_itself_or_its_ancestor() -> None:
    """One alert on root causes replaces inhibition rules."""
    page = Page("broker")
    page.state.add(
        Watched("worker", "http", replace(UP, name="probe_success"), (("probe", "worker"),), 10.0, 5.0, depends_on=("broker",)), 0.0
    )
    for moment, name in ((1.0, "broker"), (1.0, "worker"), (2.0, "broker"), (2.0, "worker")):
        page.state.of(name).take(run(CHECK, moment, outcome=Outcome.FAILURE, reason=Reason.REFUSED), 30.0)
    assert page.samples(2.0, "sidecar_probe_root_cause") == {
        'sidecar_probe_root_cause{probe="broker",env="prod",cause="broker"}': "1",
        'sidecar_probe_root_cause{probe="worker",cause="broker"}': "1",
    }


def test_a_change_of_status_stands_on_the_next_page() -> None:
    """Verdicts are kept from page to page: what they follow from must be seen to change, confirmed status first."""
    page = Page("a")
    shown = []
    for moment, outcome in enumerate((Outcome.SUCCESS, Outcome.DEGRADED, Outcome.DEGRADED), 1):
        page.state.of("a").take(run(CHECK, float(moment), outcome=outcome, reason=None), 30.0)
        shown += [series for series, value in page.samples(float(moment), "sidecar_probe_status").items() if value == "1"]
    assert [re.findall(r'status="(\w+)"', series) for series in shown] == [["healthy"], ["healthy"], ["degraded"]]


def test_an_ancestors_first_failed_check_stands_on_the_next_page() -> None:
    """It is the root from then on, before its own status is confirmed."""
    page = Page("broker")
    page.state.add(Watched("worker", "http", UP, (("probe", "worker"),), 10.0, 5.0, depends_on=("broker",)), 0.0)
    page.state.of("broker").take(run(CHECK, 1.0), 30.0)
    for moment in (1.0, 2.0):
        page.state.of("worker").take(run(CHECK, moment, outcome=Outcome.FAILURE, reason=Reason.REFUSED), 30.0)
    assert 'sidecar_probe_root_cause{probe="worker",cause="worker"}' in page.samples(2.0, "sidecar_probe_root_cause")
    page.state.of("broker").take(run(CHECK, 3.0, outcome=Outcome.FAILURE, reason=Reason.REFUSED), 30.0)
    assert 'sidecar_probe_root_cause{probe="worker",cause="broker"}' in page.samples(3.0, "sidecar_probe_root_cause")


def test_a_probe_that_is_added_stands_on_the_next_page() -> None:
    """Unknown, with its label sets, before any check."""
    page = Page("a")
    page.text()
    page.state.add(Watched("b", "postgres", UP, (("probe", "b"),), 10.0, 5.0), 0.0)
    assert page.samples(1.0, 'sidecar_probe_status{probe="b"')['sidecar_probe_status{probe="b",status="unknown"}'] == "1"


def test_retries_of_all_runs_are_counted() -> None:
    """A target that answers at the second attempt only is one that is about to fail."""
    page = Page("a")
    for moment in (1.0, 2.0):
        page.state.of("a").take(run(CHECK, moment, retries=2), 30.0)
    assert list(page.samples(2.0, "sidecar_probe_retries_total{").values()) == ["4"]


def test_a_failure_leaves_the_last_success_where_it_was() -> None:
    """How old a number is, is what an operator asks while it is failing."""
    page = Page("a")
    page.state.of("a").attach(NO_LIVE, ["size"])
    for collector in (CHECK, "size"):
        page.state.of("a").take(run(collector, 1.0), 30.0)
        page.state.of("a").take(run(collector, 2.0, outcome=Outcome.FAILURE, reason=Reason.TIMEOUT), 30.0)
    for name in ("probe", "collector"):
        (value,) = page.samples(2.0, f"sidecar_{name}_last_success_timestamp_seconds{{").values()
        assert float(value) == 1e9 + 1.0
    (collected,) = page.state.snapshot().probes[0].collectors
    assert (collected.last_success, collected.success) == (1.0, False)


@given(st.floats() | st.integers(-(2**70), 2**70))
def test_numbers_read_back_as_themselves(value: float) -> None:
    """NaN, infinities and integers beyond 2**53 included."""
    text = number(value)
    read = float(text.replace("Inf", "inf"))
    assert read == float(value) or (math.isnan(read) and math.isnan(value))


@given(st.text(), st.text())
def test_any_label_value_survives_both_parsers(value: str, other: str) -> None:
    """Names of databases and queues are whatever people called them."""
    value, other = (text.encode(errors="replace").decode() for text in (value, other))
    family = Family(SIZE, (((value,), 1),))
    body = lines(family, (("probe", other),), None)[0].decode()
    for parse, openmetrics, end in ((parse_text, False, ""), (parse_openmetrics, True, "# EOF\n")):
        page = header(SIZE, openmetrics=openmetrics).decode() + body + end
        (sample,) = (sample for metric in parse(page) for sample in metric.samples)
        assert sample.labels == {"datname": value, "probe": other}


def test_a_histogram_has_cumulative_buckets_sum_and_count() -> None:
    """As the formats want it, `le` in canonical numbers."""
    metric = Metric("seconds", Kind.HISTOGRAM, "Seconds.")
    body, _ = lines(Family(metric, (((), Distribution((0.1, 1.0), (2, 3), 4.5, 5)),)), (), None)
    assert body.decode().splitlines() == [
        'seconds_bucket{le="0.1"} 2',
        'seconds_bucket{le="1.0"} 3',
        'seconds_bucket{le="+Inf"} 5',
        "seconds_sum 4.5",
        "seconds_count 5",
    ]


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_whole_page_parses_without_a_duplicate(*, openmetrics: bool) -> None:
    """The client's parsers accept duplicates, so we count them ourselves."""
    page = Page("a", "b", connections=3)
    page.exposition = Exposition({}, Process().families)
    for moment in (1.0, 2.0):
        page.state.of("a").take(run(CHECK, moment, outcome=Outcome.FAILURE, reason=Reason.TIMEOUT), 30.0)
        page.state.of("b").take(run(CHECK, moment, Family(TRADES, ((("BTC",), 3),))), 30.0)
    text = page.text(2.0, openmetrics=openmetrics)
    families = list((parse_openmetrics if openmetrics else parse_text)(text))
    names = {family.name for family in families}
    assert {"python_info", "sidecar_probe_root_cause"} <= names
    assert any(name.startswith("process_resident_memory_bytes") for name in names)
    series = sorted(line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#"))
    assert all(one != other for one, other in pairwise(series))


def test_counts_of_a_removed_probe_are_kept_for_its_return_but_not_those_of_every_name_ever() -> None:
    """Names that are made by a machine must not fill the memory."""
    page = Page("a")
    page.state.of("a").skipped(Skip.OVERLAP, 3)
    page.state.remove("a")
    for one in range(MOST_GONE - 1):
        page.state.add(Watched(f"n{one}", "http", UP, (), 10.0, 5.0), 0.0)
        page.state.remove(f"n{one}")
    again = Watched("a", "http", UP, (("probe", "a"),), 10.0, 5.0)
    page.state.add(again, 0.0)
    assert page.samples(1.0, "sidecar_probe_skipped_total{")['sidecar_probe_skipped_total{probe="a",reason="overlap"}'] == "3"
    page.state.remove("a")
    for one in range(MOST_GONE + 1):
        page.state.add(Watched(f"m{one}", "http", UP, (), 10.0, 5.0), 0.0)
        page.state.remove(f"m{one}")
    page.state.add(again, 0.0)
    assert page.samples(2.0, "sidecar_probe_skipped_total{")['sidecar_probe_skipped_total{probe="a",reason="overlap"}'] == "0"
