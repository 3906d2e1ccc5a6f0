"""Whether anything grows: series, open files, tasks, threads and memory under scraping, checks, faults and reloads.

    python benchmarks/soak.py [--minutes 60] [--quick]

Rounds follow each other: some calm, at the end of which is measured, a fault of one target (its server frozen, by turns), its
recovery, and a reload that adds a probe and another that takes it away. What has been seen only once grows the page for good
(a reason, a status code), so every fault is shown once before anything counts. Compared are the last third and the first.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, whatever is installed

from benchmarks.common.backends import Backends
from benchmarks.common.load import PROMETHEUS
from benchmarks.common.processes import MIB, ExporterProcess, body_of, median, resident_bytes, series_in
from benchmarks.common.table import Bar, Figure, Row, at_most, compared, options_of, progress, tell
from exporter.demo.servers import Program, Redis

NAME = "soak"
CALM_SECONDS, FAULT_SECONDS = 3.0, 1.5
RECOVERY_SECONDS, ANSWER_SECONDS = 30.0, 5.0
SCRAPE_PAUSE_SECONDS = 0.2
"""Five scrapes and five looks at /health a second: a day of Prometheus in an hour and a half."""
FLAT, ALMOST_FLAT = at_most(1.0), at_most(1.03)
EXTRA = {"type": "noop", "series": 100, "interval": "500ms"}
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One calm moment; `at` is in seconds, `resident` in bytes."""

    at: float
    series: float
    files: float
    tasks: float
    threads: float
    resident: float


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All rows; `--quick` has Redis alone."""
    with ExitStack() as made:
        probes, targets = _few(made) if options.quick else _all(made)
        scale = 0.1 if options.quick else 1.0
        probes |= {"census": {"type": "census"}}
        pace = {"interval": "100ms", "timeout": "80ms"} if options.quick else {"interval": "500ms", "timeout": "400ms"}
        soak = made.enter_context(Soak({name: {**probe, **pace} for name, probe in probes.items()}, scale))
        progress("every fault once")
        for target in targets:
            soak.round(target)
        soak.samples.clear()
        progress(f"rounds for {options.minutes:g} min")
        until = time.monotonic() + (0.0 if options.quick else options.minutes * 60)
        while time.monotonic() < until or len(soak.samples) < 2:
            soak.round(targets[len(soak.samples) % len(targets)])
    yield from _told(soak)


def _few(made: ExitStack) -> tuple[dict[str, dict[str, object]], list[Program]]:
    store = made.enter_context(Redis())
    return {"redis": {"type": "redis", "url": store.url, "collect": ["info"]}}, [store]


def _all(made: ExitStack) -> tuple[dict[str, dict[str, object]], list[Program]]:
    backends = made.enter_context(Backends())
    return backends.probes, [backends.redis, backends.postgres, backends.app, backends.rabbitmq]


class Soak:
    """An exporter under load, with what was seen of it; mutable. Scraped for the length of a block."""

    def __init__(self, probes: Mapping[str, Mapping[str, object]], scale: float) -> None:
        self.samples: list[Sample] = []
        self.asked = 0
        self.unanswered = 0
        self._scale = scale
        self._probes = dict(probes)
        self._exporter = ExporterProcess({"probes": self._probes})
        self._ended = threading.Event()
        self._scraper = threading.Thread(target=self._scrape, name="scraper")

    def __enter__(self) -> Self:
        self._exporter.__enter__()
        self._scraper.start()
        self._until(self._well)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._scraper.join()
        self._exporter.close()

    def round(self, target: Program) -> None:
        """Calm, a sample, a fault, its end, and two reloads."""
        time.sleep(CALM_SECONDS * self._scale)
        self.samples.append(self._sample())
        target.freeze()
        try:
            self._until(lambda: not self._well())
            time.sleep(FAULT_SECONDS * self._scale)
        finally:
            target.thaw()
        self._until(self._well)
        for probes in ({**self._probes, "extra": EXTRA}, self._probes):
            self._exporter.configure({"probes": probes})
            os.kill(self._exporter.pid, signal.SIGHUP)
            self._until(lambda: ("noop_up" in self._page()) == ("extra" in probes))  # noqa: B023  # called at once

    def _sample(self) -> Sample:
        process = Path(f"/proc/{self._exporter.pid}")
        page = self._page()
        (tasks,) = (float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith("census_tasks{"))
        return Sample(
            time.monotonic(),
            series_in(page.encode()),
            sum(1 for _ in (process / "fd").iterdir()),
            tasks,
            sum(1 for _ in (process / "task").iterdir()),
            resident_bytes(self._exporter.pid),
        )

    def _scrape(self) -> None:
        """As Prometheus and a load balancer would, on connections of their own; the thread."""
        while not self._ended.wait(SCRAPE_PAUSE_SECONDS):
            for path, headers in (("/metrics", PROMETHEUS | {"Accept-Encoding": "gzip"}), ("/health", {})):
                try:
                    body_of(self._exporter.port, path, ANSWER_SECONDS, headers)
                except (OSError, HTTPException):
                    self.unanswered += 1
                self.asked += 1

    def _page(self) -> str:
        return body_of(self._exporter.port).decode()

    def _well(self) -> bool:
        return bool(json.loads(body_of(self._exporter.port, "/health?format=json"))["status"] == "healthy")

    def _until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + RECOVERY_SECONDS
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {RECOVERY_SECONDS:g} s: {self._exporter.last_words()}")
            time.sleep(0.05)


# -- what is told ----------------------------------------------------------------------------------------------------


def _told(soak: Soak) -> Iterator[Row]:
    """One row for each thing that must not grow."""
    samples = soak.samples
    minutes = (samples[-1].at - samples[0].at) / 60
    done = f"{minutes:.1f} min, {len(samples)} faults, {2 * len(samples)} reloads, {soak.asked} requests"
    yield Row(NAME, f"{done}: unanswered", f"{soak.unanswered}", wanted="0", held=soak.unanswered == 0)
    for what, unit, bar, of in MEASURED:
        points = [(one.at, of(one)) for one in samples]
        third = max(1, len(points) // 3)
        last, first = (Figure(median(value for _, value in some), unit) for some in (points[-third:], points[:third]))
        told = f"{what}, last third against first; slope {slope(points) * HOUR:+.3g} {unit} an hour"
        yield compared(NAME, told, last, first, bar)


MEASURED: tuple[tuple[str, str, Bar, Callable[[Sample], float]], ...] = (
    ("series", "series", FLAT, lambda sample: sample.series),
    ("open files", "files", FLAT, lambda sample: sample.files),
    ("tasks", "tasks", FLAT, lambda sample: sample.tasks),
    ("threads", "threads", FLAT, lambda sample: sample.threads),
    ("memory", "MiB", ALMOST_FLAT, lambda sample: sample.resident / MIB),
)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line that fits best by least squares, per second."""
    middle_x, middle_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


if __name__ == "__main__":
    options = options_of(__doc__)
    options.add_argument("--minutes", type=float, default=60.0, help="how long; default an hour")
    tell(measure, options.parse_args())
