"""From a row's values to a series' value and labels. Pure; knows no query and no driver."""

import math
from decimal import Decimal

Cell = int | float | Decimal | str | None

_LONGEST_INTEGER = 40
"""Digits up to which a NUMERIC without a fraction is written out exactly; a longer one becomes a float."""


def number(cell: Cell) -> int | float | None:
    """The value of a series: exact where it is a whole number, true is 1; None for NULL and NaN, which are no value.

    Raises:
        TypeError: it is text.
    """
    match cell:
        case None:
            return None
        case bool() | int():
            return int(cell)
        case float():
            return None if math.isnan(cell) else cell
        case Decimal():
            return _exact(cell)
    raise TypeError


def _exact(value: Decimal) -> int | float | None:
    if value.is_nan():
        return None
    if value.is_finite() and value.adjusted() < _LONGEST_INTEGER and value == value.to_integral_value():
        return int(value)
    return float(value)


def label(cell: Cell) -> str:
    """The value of a label as the server would write it; NULL is the empty label."""
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case float():
            return repr(cell).removesuffix(".0")
    return str(cell)
