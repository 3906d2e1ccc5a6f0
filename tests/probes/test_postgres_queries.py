"""What a query's rows mean, without a server."""

from decimal import Decimal

import pytest

from exporter.errors import ProbeError
from exporter.model import Kind, Reason
from exporter.probes.postgres.queries import families, require_columns, require_fewer
from exporter.probes.postgres.settings import Query
from exporter.probes.postgres.values import Cell, label, number


def query(kind: str = "gauge", **more: object) -> Query:
    metric = {"type": kind, "help": "Trades.", "value": "total", "labels": ("symbol",)}
    return Query.model_validate({"sql": "SELECT", "metrics": {"trades_total": metric, **more}})


def problem(kind: str, *rows: tuple[Cell, ...]) -> str:
    with pytest.raises(ProbeError) as caught:
        families("executed", query(kind), ("symbol", "total"), rows)
    assert (caught.value.reason, caught.value.retryable) == (Reason.CONFIG, False)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (7, 7),
        (True, 1),
        (False, 0),
        (1.5, 1.5),
        (Decimal(12345678901234567890), 12345678901234567890),
        (Decimal("2.50"), 2.5),
        (Decimal("3.00"), 3),
        (Decimal("1E+50"), 1e50),
        (Decimal("Infinity"), float("inf")),
        (None, None),
        (float("nan"), None),
        (Decimal("NaN"), None),
    ],
)
def test_values(cell: Cell, value: float | None) -> None:
    """Whole numbers stay exact, true is 1, NULL and NaN are no value."""
    assert number(cell) == value
    assert type(number(cell)) is type(value)


@pytest.mark.parametrize(
    ("cell", "text"), [(None, ""), ("BTC", "BTC"), (7, "7"), (True, "true"), (1.0, "1"), (0.25, "0.25"), (Decimal("2.50"), "2.50")]
)
def test_labels(cell: Cell, text: str) -> None:
    """As the server writes them."""
    assert label(cell) == text


def test_rows_become_series() -> None:
    """One row may feed several metrics; columns are found by name."""
    more = {"volume": {"type": "gauge", "help": "Volume.", "value": "sum"}}
    read = families("executed", query("counter", **more), ("sum", "symbol", "total"), [(None, "BTC", 3), (1.5, None, 4)])
    assert [(family.metric.name, family.metric.kind, family.rows) for family in read] == [
        ("trades_total", Kind.COUNTER, ((("BTC",), 3), (("",), 4))),
        ("volume", Kind.GAUGE, (((), 1.5),)),
    ]


def test_no_rows_are_empty_families() -> None:
    """A successful run that found nothing replaces what was there before."""
    assert [family.rows for family in families("executed", query(), ("symbol", "total"), [])] == [()]


def test_a_missing_column_is_named_with_those_there_are() -> None:
    """The likeliest mistake: a column without AS."""
    with pytest.raises(ProbeError) as caught:
        require_columns("executed", query(), ("symbol", "count"))
    assert (caught.value.reason, str(caught.value)) == (
        Reason.CONFIG,
        "query executed: no column total; it returns symbol, count",
    )
    require_columns("executed", query(), ("total", "other", "symbol"))


def test_mistakes_are_told_by_row_number_and_never_by_content() -> None:
    """A row may hold what nobody should read in a log."""
    assert problem("gauge", ("secret", 1), ("other", 2), ("secret", 3)) == (
        "query executed: rows 1 and 3 have the same labels for trades_total; group by them"
    )
    assert problem("counter", ("secret", 1), ("other", -2)) == (
        "query executed: row 2: the counter trades_total is negative; make it a gauge"
    )
    assert problem("gauge", ("BTC", "secret")) == (
        "query executed: column total is no number; cast it, an interval by extract(epoch FROM total)"
    )


def test_a_row_without_value_has_no_labels_to_clash() -> None:
    """NULL is an absent series, not a second one."""
    assert families("executed", query(), ("symbol", "total"), [("BTC", None), ("BTC", 2)])[0].rows == ((("BTC",), 2),)


def test_too_many_rows_are_refused() -> None:
    """Beyond what could be dropped and counted, it is a mistake."""
    require_fewer("executed", [(1,)] * 3, 3)
    with pytest.raises(ProbeError, match=r"^query executed: more than 3 rows; aggregate them$"):
        require_fewer("executed", [(1,)] * 4, 3)
