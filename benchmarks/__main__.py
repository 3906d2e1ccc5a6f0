"""All benchmarks one after the other, and one table: `python benchmarks`, or `make bench`. Takes about eight minutes.

A benchmark that fails is named at the end, and the exit status is 1; a bar that is lost is a finding, and it is 0.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, whatever is installed

from benchmarks.common.table import LOST, Row, machine, progress, table

HERE = Path(__file__).parent
SCRIPTS: dict[str, tuple[str, ...]] = {
    "scrape": (),
    "schedule": (),
    "hung": (),
    "footprint": (),
    "soak": ("--minutes", "0.5"),
    "peers": (),
}
LONGEST_SECONDS = 900.0


def rows_of(name: str, *options: str) -> Iterator[Row]:
    """What a script measures, row by row.

    Raises:
        subprocess.SubprocessError: it fails, or takes too long.
    """
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *options]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LONGEST_SECONDS, check=False)
    for line in ended.stdout.splitlines():
        yield Row(**json.loads(line))
    ended.check_returncode()


def main() -> int:
    """Prints the table; returns the exit status."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="shows that they run, their figures mean nothing")
    quick = ("--quick",) if options.parse_args().quick else ()
    where = machine()  # before the load is ours
    rows: list[Row] = []
    failed = []
    for name, more in SCRIPTS.items():
        progress(f"{name}.py")
        try:
            rows.extend(rows_of(name, *more, *quick))
        except subprocess.SubprocessError as error:
            failed.append(f"{name}.py: {error}")
    lost = sum(row.held is False for row in rows)
    print(table(rows), f"{lost} {LOST}", where, *failed, sep="\n\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
