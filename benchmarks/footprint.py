"""What a process weighs by the types it is configured with, and how soon it answers after its start.

    python benchmarks/footprint.py [--quick]

Memory is what is in RAM, shared pages included, some seconds after every probe is healthy. The reference is aiohttp with one
handler. A start is timed from fork to the first 200, found out by asking every few milliseconds; both sides the same way.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, whatever is installed

from benchmarks.common.backends import Backends
from benchmarks.common.processes import MIB, Child, ExporterProcess, Fixed, body_of, median, resident_bytes
from benchmarks.common.table import Figure, Row, compared, options_of, progress, tell
from exporter.demo.servers import HOST

NAME = "footprint"
HEALTHY_SECONDS = 30.0
SETTLE_SECONDS = 2.0

ROUNDS = 3
NO_DRIVER = "no driver"
RESTING = {"resting": {"type": "http", "url": f"http://{HOST}:1/", "enabled": False}}
"""A configuration needs a probe; the driver of one that does not run is not imported."""

Probes = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Weight:
    """One process: seconds from its start to its first answer and to the first in which all is healthy, bytes in RAM then."""

    answer_seconds: float
    healthy_seconds: float
    resident: int


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All rows; `--quick` has no driver at all."""
    with ExitStack() as made:
        found = {} if options.quick else made.enter_context(Backends()).probes
        settle = 0.0 if options.quick else SETTLE_SECONDS
        rounds = 1 if options.quick else ROUNDS
        progress("bare aiohttp")
        floor = _middle([_bare(settle) for _ in range(rounds)])
        singles = {kind: {kind: probe} for kind, probe in found.items()}
        for what, probes, times in (
            (NO_DRIVER, RESTING, rounds),
            *((kind, probe, 1) for kind, probe in singles.items()),
            *([("all five", found, rounds)] if found else []),
        ):
            progress(what)
            yield from _rows(what, _middle([_weighed(probes, settle) for _ in range(times)]), floor)


def _middle(seen: list[Weight]) -> Weight:
    return Weight(
        median(one.answer_seconds for one in seen),
        median(one.healthy_seconds for one in seen),
        int(median(one.resident for one in seen)),
    )


def _rows(what: str, ours: Weight, floor: Weight) -> Iterator[Row]:
    resident = [Figure(one.resident / MIB, "MiB") for one in (ours, floor)]
    yield compared(NAME, f"{what}: memory against bare aiohttp", resident[0], resident[1])
    answer = [Figure(one.answer_seconds, "s") for one in (ours, floor)]
    healthy = "" if what == NO_DRIVER else f" (all healthy after {Figure(ours.healthy_seconds, 's')})"
    yield compared(NAME, f"{what}: start to first answer{healthy}", answer[0], answer[1])


def _bare(settle: float) -> Weight:
    server = Fixed(b"ok\n")
    try:
        answer = _started(server)
        time.sleep(settle)
        return Weight(answer, answer, resident_bytes(server.pid))
    finally:
        server.close()


def _weighed(probes: Probes, settle: float) -> Weight:
    server = ExporterProcess({"probes": {name: {**probe, "interval": "1s"} for name, probe in probes.items()}})
    try:
        began = time.monotonic()
        answer = _started(server)
        running = [name for name, probe in probes.items() if probe.get("enabled", True)]
        while not _healthy(server.port, running):
            if time.monotonic() > began + HEALTHY_SECONDS:
                raise TimeoutError(f"not healthy after {HEALTHY_SECONDS:g} s: {', '.join(probes)}")
            time.sleep(0.01)
        healthy = time.monotonic() - began
        time.sleep(settle)
        return Weight(answer, healthy, resident_bytes(server.pid))
    finally:
        server.close()


def _started(server: Child) -> float:
    began = time.monotonic()
    server.start()
    return time.monotonic() - began


def _healthy(port: int, names: list[str]) -> bool:
    probes = json.loads(body_of(port, "/health?format=json"))["probes"]
    return all(probes[name]["status"] == "healthy" for name in names)


if __name__ == "__main__":
    tell(measure, options_of(__doc__).parse_args())
