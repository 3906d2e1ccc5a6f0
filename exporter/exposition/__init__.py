"""From a snapshot to the bytes of /metrics. Pure but for its caches; knows no HTTP and no schedule.

A family of a run is rendered once into bytes. The bytes are joined family by family, HELP and TYPE once however many probes
contribute, and a family that nothing has changed keeps its joined bytes. What is told of a probe follows its version; what
depends on the time (status, root cause, staleness) follows the generation and the next moment at which something expires.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from exporter.exposition.lines import Labels, Pattern, header, lines, static_labels
from exporter.exposition.own import OF_PROBE, of_process, of_verdicts
from exporter.health import BLIND_SECONDS, report
from exporter.model import Family, Metric, ProbeStatus, ProbeTally, Reload, Row, Snapshot

REREAD_SECONDS = 1.0

Families = Callable[[], Iterable[Family]]
Key = tuple[str, str]
"""Probe and source of a part: a collector, or one of the exporter's own."""

OWN, VERDICT, PROCESS = ".own", ".verdict", ".process"

_NOTHING: Sequence[object] = (object(),) * len(OF_PROBE)
"""Known of a probe that has not been told of: equal to nothing."""


@dataclass(slots=True)
class Part:
    """What one source contributes to a family: its lines, of which run, and what they were made of."""

    run: int
    rows: tuple[Row, ...]
    lines: bytes
    pattern: Pattern

    def put(self, family: Family, run: int, labels: Labels) -> bool:
        """Takes in a later run; returns whether its lines are others."""
        self.run = run
        if self.rows == family.rows and self.pattern.static == labels:
            return False
        before, self.rows = self.lines, family.rows
        self.lines, self.pattern = lines(family, labels, self.pattern)
        return self.lines != before


class Joined:
    """One family of the page, with what each source contributes; mutable."""

    def __init__(self, metric: Metric) -> None:
        self.text_header = header(metric, openmetrics=False)
        self.openmetrics_header = header(metric, openmetrics=True)
        self._parts: dict[Key, Part] = {}
        self._sorted: list[tuple[Key, Part]] | None = None
        self._samples: bytes | None = None

    def put(self, key: Key, family: Family, run: int, labels: Labels) -> None:
        """What that source has read in that run; a negative run is never one seen before."""
        part = self._parts.get(key)
        if part is None:
            self._parts[key] = Part(run, family.rows, *lines(family, labels, None))
            self._sorted = self._samples = None
        elif (part.run != run or run < 0 or part.pattern.static != labels) and part.put(family, run, labels):
            self._samples = None

    def remove(self, key: Key) -> bool:
        """The source contributes nothing any more; returns whether nobody does."""
        self._parts.pop(key, None)
        self._sorted = self._samples = None
        return not self._parts

    def samples(self) -> bytes:
        """All lines, sorted by source."""
        if self._samples is None:
            self._samples = b"".join([part.lines for _, part in self._in_order()])
        return self._samples

    def of(self, probes: Collection[str]) -> bytes:
        """Those of these probes."""
        return b"".join([part.lines for (probe, _), part in self._in_order() if probe in probes])

    def _in_order(self) -> list[tuple[Key, Part]]:
        if self._sorted is None:
            self._sorted = sorted(self._parts.items(), key=lambda item: item[0])
        return self._sorted


class Exposition:
    """`labels` stand on every series; `process` gives the families of this process, read again once a second and after a reload."""

    def __init__(self, labels: Mapping[str, str], process: Families) -> None:
        self._labels = static_labels(labels)
        self._process = process
        self._families: dict[str, Joined] = {}
        self._order: list[Joined] = []
        self._told: dict[str, tuple[Labels, Sequence[object]]] = {}
        self._shown: dict[str, dict[tuple[str, str], None]] = {}
        self._sources: dict[Key, frozenset[str]] = {}
        self._generation = -1
        self._next_verdict = 0.0
        self._next_reread = 0.0
        self._reload: Reload | None = None
        self._versions: dict[str, int] = {}
        self._expiries: dict[str, float] = {}

    def render(self, snapshot: Snapshot, now: float, *, openmetrics: bool, probes: Collection[str] = ()) -> bytes:
        """The page at `now` (monotonic seconds); with `probes`, only the series of these."""
        self._update(snapshot, now)
        out: list[bytes] = []
        for family in self._order:
            samples = family.of(probes) if probes else family.samples()
            if samples:
                out.append(family.openmetrics_header if openmetrics else family.text_header)
                out.append(samples)
        if openmetrics:
            out.append(b"# EOF\n")
        return b"".join(out)

    def relabel(self, labels: Mapping[str, str]) -> None:
        """From now on these stand on every series of the process itself; a probe's own come with its tally."""
        self._labels = static_labels(labels)
        self._generation = -1
        self._next_reread = 0.0

    # -- what has changed --------------------------------------------------------------------------------------------

    def _update(self, snapshot: Snapshot, now: float) -> None:
        for gone in self._versions.keys() - {tally.name for tally in snapshot.tallies}:
            self.forget(gone)
        for status, tally in zip(snapshot.probes, snapshot.tallies, strict=True):
            if self._versions.get(tally.name) != tally.version or now >= self._expiries[tally.name]:
                self._put_blocks(tally, now)
                self._put_own(status, tally)
                self._versions[tally.name] = tally.version
        if snapshot.generation != self._generation or now >= self._next_verdict:
            self._put_verdicts(snapshot, now)
        if now >= self._next_reread or snapshot.reload is not self._reload:
            self._next_reread, self._reload = now + REREAD_SECONDS, snapshot.reload
            self._put("", PROCESS, (*of_process(snapshot), *self._process()), self._labels)

    def _put_blocks(self, tally: ProbeTally, now: float) -> None:
        """What its runs have read and is not stale; the rest leaves."""
        shown: dict[tuple[str, str], None] = {}
        expiry = float("inf")
        for block in tally.blocks:
            if block.until > now:
                metric, key = block.family.metric, (tally.name, block.collector)
                self._joined(metric).put(key, block.family, block.run, tally.labels)
                shown[metric.name, block.collector] = None
                expiry = min(expiry, block.until)
        self._expiries[tally.name] = expiry
        for name, collector in self._shown.get(tally.name, {}).keys() - shown.keys():
            self._remove(name, (tally.name, collector))
        self._shown[tally.name] = shown

    def _put_own(self, status: ProbeStatus, tally: ProbeTally) -> None:
        """What is told of the probe itself: only what has changed is made into lines anew."""
        key = (tally.name, OWN)
        labels, before = self._told.get(tally.name, ((), _NOTHING))
        fresh = labels != tally.labels
        values = []
        for told, known in zip(OF_PROBE, before, strict=True):
            value = told.read(status, tally)
            values.append(value)
            if value == known and not fresh:
                continue
            rows = tuple(told.rows(value))
            if rows:
                self._joined(told.metric).put(key, Family(told.metric, rows), tally.version, tally.labels)
            else:
                self._remove(told.metric.name, key)
        self._told[tally.name] = tally.labels, values

    def _put_verdicts(self, snapshot: Snapshot, now: float) -> None:
        self._generation = snapshot.generation
        moments = [status.overdue for status in snapshot.probes if status.enabled]
        moments += [status.limited_since + BLIND_SECONDS for status in snapshot.probes if status.limited_since is not None]
        # a moment that has passed is judged again at each page: only a check can end it, and that may change no standing
        self._next_verdict = min(moments, default=float("inf"))
        labels = {tally.name: tally.labels for tally in snapshot.tallies}
        aggregate, by_probe = of_verdicts(report(snapshot, now))
        self._put("", VERDICT, (aggregate,), self._labels)
        for name, families in by_probe.items():
            self._put(name, VERDICT, families, labels[name])

    # -- parts -------------------------------------------------------------------------------------------------------

    def _put(self, probe: str, source: str, families: Iterable[Family], labels: Labels, run: int = -1) -> None:
        """Makes these, and no others, the families of one of our own sources."""
        key = (probe, source)
        names = set()
        for family in families:
            names.add(family.metric.name)
            self._joined(family.metric).put(key, family, run, labels)
        for name in self._sources.get(key, frozenset()) - names:
            self._remove(name, key)
        self._sources[key] = frozenset(names)

    def _remove(self, name: str, key: Key) -> None:
        family = self._families.get(name)
        if family is not None and family.remove(key):  # another probe may bring the name back with another type
            self._order.remove(self._families.pop(name))

    def _joined(self, metric: Metric) -> Joined:
        joined = self._families.get(metric.name)
        if joined is None:
            joined = self._families[metric.name] = Joined(metric)
            self._order = [self._families[name] for name in sorted(self._families)]
        return joined

    def forget(self, probe: str) -> None:
        """The probe is gone, or another has its name: whose metrics may have another type, other labels and other help."""
        if probe not in self._versions:
            return
        for told in OF_PROBE:
            self._remove(told.metric.name, (probe, OWN))
        for name, collector in self._shown.pop(probe):
            self._remove(name, (probe, collector))
        for key in [key for key in self._sources if key[0] == probe]:
            for name in self._sources.pop(key):
                self._remove(name, key)
        del self._versions[probe], self._expiries[probe], self._told[probe]
