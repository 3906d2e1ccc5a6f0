"""From a snapshot to the bytes of /metrics. Pure but for its caches; knows no HTTP and no schedule.

A family of a run is rendered once into bytes. The bytes are joined family by family, HELP and TYPE once however many probes
contribute, and a family that nothing has changed keeps its joined bytes. What is told of a probe follows its version; what
depends on the time (status, root cause, staleness) follows the generation and the next moment at which something expires.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from exporter.exposition.lines import Labels, Prefixes, header, lines, static_labels
from exporter.exposition.own import of_probe, of_process, of_verdicts
from exporter.health import BLIND_SECONDS, report
from exporter.model import Family, Metric, ProbeTally, Reload, Snapshot

REREAD_SECONDS = 1.0

Families = Callable[[], Iterable[Family]]
Key = tuple[str, str]
"""Probe and source of a part: a collector, or one of the exporter's own."""

OWN, VERDICT, PROCESS = ".own", ".verdict", ".process"


@dataclass(slots=True)
class Part:
    """What one source contributes to a family: its lines, and the prefixes to use again."""

    run: int
    static: Labels
    lines: bytes
    prefixes: Prefixes


@dataclass(slots=True)
class Joined:
    """One family of the page, with what each source contributes. `bytes` is None after a change."""

    metric: Metric
    text_header: bytes
    openmetrics_header: bytes
    parts: dict[Key, Part] = field(default_factory=dict)
    samples: bytes | None = None

    def joined(self) -> bytes:
        if self.samples is None:
            self.samples = b"".join(part.lines for _, part in sorted(self.parts.items()))
        return self.samples

    def of(self, probes: Collection[str]) -> bytes:
        return b"".join(part.lines for key, part in sorted(self.parts.items()) if key[0] in probes)


class Exposition:
    """`labels` stand on every series; `process` gives the families of this process, read again once a second and after a reload."""

    def __init__(self, labels: Mapping[str, str], process: Families) -> None:
        self._labels = static_labels(labels)
        self._process = process
        self._families: dict[str, Joined] = {}
        self._order: list[Joined] = []
        self._collectors: dict[str, frozenset[str]] = {}
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
            samples = family.of(probes) if probes else family.joined()
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
            self._forget(gone)
        for status, tally in zip(snapshot.probes, snapshot.tallies, strict=True):
            if self._versions.get(tally.name) != tally.version or now >= self._expiries[tally.name]:
                self._put_blocks(tally, now)
                self._put(tally.name, OWN, of_probe(status, tally), tally.labels, tally.version)
                self._versions[tally.name] = tally.version
        if snapshot.generation != self._generation or now >= self._next_verdict:
            self._put_verdicts(snapshot, now)
        if now >= self._next_reread or snapshot.reload is not self._reload:
            self._next_reread, self._reload = now + REREAD_SECONDS, snapshot.reload
            self._put("", PROCESS, (*of_process(snapshot), *self._process()), self._labels, None)

    def _put_blocks(self, tally: ProbeTally, now: float) -> None:
        by_collector: dict[str, list[tuple[Family, int]]] = {}
        expiry = float("inf")
        for block in tally.blocks:
            if block.until > now:
                by_collector.setdefault(block.collector, []).append((block.family, block.run))
                expiry = min(expiry, block.until)
        self._expiries[tally.name] = expiry
        for collector in self._collectors.get(tally.name, frozenset()) - by_collector.keys():
            self._put_runs(tally.name, collector, [], tally.labels)
        self._collectors[tally.name] = frozenset(by_collector)
        for collector, families in by_collector.items():
            self._put_runs(tally.name, collector, families, tally.labels)

    def _put_verdicts(self, snapshot: Snapshot, now: float) -> None:
        self._generation = snapshot.generation
        moments = [status.overdue for status in snapshot.probes if status.enabled]
        moments += [status.limited_since + BLIND_SECONDS for status in snapshot.probes if status.limited_since is not None]
        # a moment that has passed is judged again at each page: only a check can end it, and that may change no standing
        self._next_verdict = min(moments, default=float("inf"))
        labels = {tally.name: tally.labels for tally in snapshot.tallies}
        aggregate, by_probe = of_verdicts(report(snapshot, now))
        self._put("", VERDICT, (aggregate,), self._labels, None)
        for name, families in by_probe.items():
            self._put(name, VERDICT, families, labels[name], None)

    # -- parts -------------------------------------------------------------------------------------------------------

    def _put(self, probe: str, source: str, families: Iterable[Family], labels: Labels, version: int | None) -> None:
        self._put_runs(probe, source, [(family, -1 if version is None else version) for family in families], labels)

    def _put_runs(self, probe: str, source: str, families: Iterable[tuple[Family, int]], labels: Labels) -> None:
        """Makes these, and no others, the families of one source."""
        key = (probe, source)
        names = set()
        for family, run in families:
            names.add(family.metric.name)
            joined = self._joined(family.metric)
            before = joined.parts.get(key)
            if before is not None and before.run == run and run >= 0 and before.static == labels:
                continue
            text, prefixes = lines(family, labels, before.prefixes if before and before.static == labels else {})
            if before is None or before.lines != text:
                joined.samples = None
            joined.parts[key] = Part(run, labels, text, prefixes)
        for name in self._sources.get(key, frozenset()) - names:
            self._remove(name, key)
        self._sources[key] = frozenset(names)

    def _remove(self, name: str, key: Key) -> None:
        joined = self._families[name]
        del joined.parts[key]
        joined.samples = None
        if not joined.parts:  # another probe may bring the name back with another type
            del self._families[name]
            self._order.remove(joined)

    def _joined(self, metric: Metric) -> Joined:
        joined = self._families.get(metric.name)
        if joined is None:
            joined = Joined(metric, header(metric, openmetrics=False), header(metric, openmetrics=True))
            self._families[metric.name] = joined
            self._order = [self._families[name] for name in sorted(self._families)]
        return joined

    def _forget(self, probe: str) -> None:
        for key in [key for key in self._sources if key[0] == probe]:
            self._put_runs(*key, [], ())
            del self._sources[key]
        del self._versions[probe], self._expiries[probe], self._collectors[probe]
