"""What a benchmark prints: rows of ours against a reference, each with what is wanted of it. Knows no benchmark."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

OK, LOST = "ok", "lost"
HEAD = ("name", "what", "ours", "reference", "ratio", "wanted", "")
PACKAGES = ("aiohttp", "asyncpg", "redis", "prometheus-client")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `wanted` is a bar in words, `held` whether it was reached; None where nothing is asked for."""

    name: str
    what: str
    ours: str
    reference: str = ""
    ratio: float | None = None
    wanted: str = ""
    held: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """As printed, in the order of `HEAD`."""
        verdict = "" if self.held is None else OK if self.held else LOST
        ratio = "" if self.ratio is None else f"{digits(self.ratio)} ×"
        return (self.name, self.what, self.ours, self.reference, ratio, self.wanted, verdict)


@dataclass(frozen=True, slots=True)
class Bar:
    """What a ratio must reach, or must not pass."""

    limit: float
    above: bool

    def holds(self, ratio: float) -> bool:
        return ratio >= self.limit if self.above else ratio <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.above else '≤'} {digits(self.limit)} ×"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its unit."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{digits(self.value)} {self.unit}"


def at_least(limit: float) -> Bar:
    return Bar(limit, above=True)


def at_most(limit: float) -> Bar:
    return Bar(limit, above=False)


def compared(name: str, what: str, ours: Figure, reference: Figure, bar: Bar | None = None) -> Row:
    """Ours as a multiple of the reference."""
    return _row(name, what, (ours, reference), ours.value / reference.value, bar)


def times_cheaper(name: str, what: str, ours: Figure, reference: Figure, bar: Bar | None = None) -> Row:
    """The reference as a multiple of ours."""
    return _row(name, what, (ours, reference), reference.value / ours.value, bar)


def within(name: str, what: str, ours: Figure, limit: float) -> Row:
    """A figure of ours that must not pass a fixed limit, in its own unit."""
    return Row(name, what, str(ours), wanted=f"≤ {digits(limit)} {ours.unit}", held=ours.value <= limit)


def _row(name: str, what: str, figures: tuple[Figure, Figure], ratio: float, bar: Bar | None) -> Row:
    held = None if bar is None else bar.holds(ratio)
    return Row(name, what, str(figures[0]), str(figures[1]), ratio, "" if bar is None else str(bar), held)


def digits(value: float) -> str:
    """Three significant digits, and never fewer than stand before the point."""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 100 else f"{value:.3g}"


# -- printing --------------------------------------------------------------------------------------------------------


def table(rows: Iterable[Row]) -> str:
    """A Markdown table, padded so that it can be read as it stands."""
    cells = [HEAD, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    head, *body = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in cells]
    return "\n".join((head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *body))


def machine() -> str:
    """Where the figures come from, in one line; a load above the number of cores makes them worth little."""
    processor = next((line.partition(": ")[2] for line in _processors() if line.startswith("model name")), "unknown processor")
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores ({processor}), load {load:.2f}, CPython {platform.python_version()}, {versions}"


def _processors() -> Iterator[str]:
    yield from Path("/proc/cpuinfo").read_text().splitlines()


def progress(what: str) -> None:
    """Says on standard error what is being measured: it takes a while."""
    sys.stderr.write(f"… {what}\n")
    sys.stderr.flush()


# -- a script --------------------------------------------------------------------------------------------------------

Measure = Callable[[argparse.Namespace], Iterator[Row]]


def options_of(description: str | None) -> argparse.ArgumentParser:
    """What every script takes; it adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a second or two: shows that it runs, its figures mean nothing")
    parser.add_argument("--json", action="store_true", help="one row a line, for programs")
    return parser


def tell(measure: Measure, options: argparse.Namespace) -> None:
    """Measures and prints; JSON row by row, a table at the end."""
    if options.json:
        for row in measure(options):
            print(json.dumps(asdict(row), ensure_ascii=False), flush=True)
        return
    where = machine()  # before the load is ours
    rows: list[Row] = []
    try:
        rows.extend(measure(options))
    finally:  # what was measured before something went wrong
        print(table(rows), where, sep="\n\n")
