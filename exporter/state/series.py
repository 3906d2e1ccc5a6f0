"""The series of one probe: what its runs read, until it is replaced or stale. Knows no clock and no status."""

from collections.abc import Sequence

from exporter.model import CHECK, Block, Distribution, Family, Metric, Reading, Row

LISTENER = "listener"
"""Name of the source that never goes stale: what listening counted."""


class Series:
    """Blocks by collector and metric; mutable, owned by a probe's record. No more than `max_series` series at any time."""

    def __init__(self, max_series: int) -> None:
        self.dropped = 0
        self._max_series = max_series
        self._blocks: dict[str, dict[str, Block]] = {}
        self._capabilities: dict[str, dict[str, bool]] = {}
        self._up: Block | None = None
        self._reading = 0
        self._counted: int | None = None

    def take(self, collector: str, reading: Reading, until: float, *, complete: bool) -> None:
        """Puts a reading in place: of all of the collector's families, or, incomplete, of those it did read."""
        self._reading += 1
        families = self._capped(collector, reading.families)
        read = {family.metric.name: Block(collector, self._reading, family, until) for family in families}
        self._blocks[collector] = read if complete else {**self._blocks.get(collector, {}), **read}
        if complete or reading.capabilities:
            self._capabilities[collector] = {capability.feature: capability.available for capability in reading.capabilities}

    def take_up(self, metric: Metric, value: int) -> None:
        """The up series after a check."""
        self._reading += 1
        self._up = Block(CHECK, self._reading, Family(metric, (((), value),)), 0.0)

    def take_counters(self, version: int, families: Sequence[Family]) -> None:
        """What listening has counted so far; nothing happens when `version` has been seen."""
        if version != self._counted:
            self._counted = version
            kept = self._capped(LISTENER, families)
            self._blocks[LISTENER] = {family.metric.name: Block(LISTENER, version, family, float("inf")) for family in kept}

    def blocks(self, overdue: float) -> tuple[Block, ...]:
        """All blocks; the up series leaves only when the probe is overdue."""
        read = (block for blocks in self._blocks.values() for block in blocks.values())
        if self._up is None:
            return tuple(read)
        return (Block(CHECK, self._up.run, self._up.family, overdue), *read)

    @property
    def count(self) -> int:
        """Series held, stale ones that have not been replaced included."""
        return sum(_size(block.family) for blocks in self._blocks.values() for block in blocks.values()) + (self._up is not None)

    @property
    def capabilities(self) -> tuple[tuple[str, bool], ...]:
        return tuple(sorted({feature: good for group in self._capabilities.values() for feature, good in group.items()}.items()))

    def _capped(self, collector: str, families: Sequence[Family]) -> Sequence[Family]:
        """The families with whole label sets dropped, last in sort order, where the probe would have more than `max_series`."""
        others = (block for name, blocks in self._blocks.items() if name != collector for block in blocks.values())
        room = self._max_series - sum(_size(block.family) for block in others)
        if sum(map(_size, families)) <= room:
            return families
        kept: list[Family] = []
        for family in sorted(families, key=lambda family: family.metric.name):
            rows: list[Row] = []
            for row in sorted(family.rows, key=lambda row: row[0]):
                weight = _weight(row)
                if weight <= room:
                    room -= weight
                    rows.append(row)
                else:
                    room = 0
                    self.dropped += weight
            kept.append(Family(family.metric, tuple(rows)))
        return kept


def _weight(row: Row) -> int:
    """Series of one label set: a distribution has its buckets, +Inf, sum and count."""
    value = row[1]
    return len(value.bounds) + 3 if isinstance(value, Distribution) else 1


def _size(family: Family) -> int:
    return sum(map(_weight, family.rows))
