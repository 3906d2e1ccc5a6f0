"""Names of metrics and labels: what Prometheus and promtool leave to the user."""

import pytest

from exporter.config.series import built_in_metrics, label_problem, name_problems, stem


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("trades_executed_total", "counter"),
        ("trade_profit_usd", "gauge"),
        ("active_arbitrage_opportunities", "gauge"),
        ("arbitrage_profit_percent", "gauge"),
        ("db_query_duration_seconds", "gauge"),
        ("thermometers", "gauge"),
        ("last_trade_timestamp_seconds", "gauge"),
        ("m", "gauge"),
        ("_x", "gauge"),
    ],
)
def test_sound_names_pass(name: str, kind: str) -> None:
    """The platform's own metrics among them."""
    assert list(name_problems(name, kind)) == []


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("trades", "counter", ["a counter's name ends in _total"]),
        ("trades_total", "gauge", ["_total is for counters"]),
        ("trades_count", "gauge", ["_count is for histograms"]),
        ("trades_sum", "gauge", ["_sum is for histograms"]),
        ("trades_bucket", "gauge", ["_bucket is for histograms"]),
        ("job:trades", "gauge", ["a colon is for recording rules"]),
        ("tradeProfit", "gauge", ["write it in snake_case"]),
        ("trade_gauge_usd", "gauge", ["leave the type `gauge` out of the name"]),
        ("trade_Summary", "gauge", ["leave the type `summary` out of the name"]),
        ("latency_ms", "gauge", ["write the unit `ms` out"]),
        ("latency_milliseconds", "gauge", ["use the base unit seconds instead of milliseconds"]),
        ("age_hours", "gauge", ["use the base unit seconds instead of hours"]),
        ("size_kibibytes_total", "counter", ["use the base unit bytes instead of kibibytes"]),
        ("x_timestamp_seconds", "counter", ["a counter's name ends in _total", "_timestamp_seconds is for gauges"]),
        ("1trade", "gauge", ["not a metric name; it holds letters, digits and `_`, and begins with no digit"]),
        ("trades-executed", "gauge", ["not a metric name; it holds letters, digits and `_`, and begins with no digit"]),
        ("", "gauge", ["not a metric name; it holds letters, digits and `_`, and begins with no digit"]),
        ("sidecar_x", "gauge", ["sidecar_ is the prefix of the exporter's own metrics"]),
        ("process_x", "gauge", ["process_ is the prefix of the exporter's own metrics"]),
        ("python_x", "gauge", ["python_ is the prefix of the exporter's own metrics"]),
    ],
)
def test_names_that_promtool_complains_of_are_refused(name: str, kind: str, said: list[str]) -> None:
    """What `promtool check metrics` 2.42 says of each, in our words, before anything is scraped."""
    assert list(name_problems(name, kind)) == said


@pytest.mark.parametrize("name", ["symbol", "_x", "a1"])
def test_sound_labels_pass(name: str) -> None:
    """Ordinary column names."""
    assert label_problem(name) is None


@pytest.mark.parametrize("name", ["probe", "job", "instance", "le", "quantile", "__name__", "1a", "a-b", "a b", "", "dataCenter"])
def test_labels_that_others_need_are_refused(name: str) -> None:
    """Prometheus, histograms and every series of ours have these already."""
    assert label_problem(name)


@pytest.mark.parametrize(
    ("name", "left"),
    [("a_total", "a"), ("a_count", "a"), ("a_sum", "a"), ("a_bucket", "a"), ("a", "a"), ("a_total_count", "a_total")],
)
def test_stem_is_the_name_without_one_suffix(name: str, left: str) -> None:
    """OpenMetrics forbids families that differ in it alone."""
    assert stem(name) == left


def test_up_metrics_of_all_types_are_built_in() -> None:
    """Also those of types that the configuration does not use: the probe may be added tomorrow."""
    assert dict(built_in_metrics()).items() >= {"pg_up": "postgres", "probe_success": "http"}.items()
