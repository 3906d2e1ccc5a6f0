"""The series of one probe: what its runs read, until it is replaced or stale. Knows no clock and no status."""

from collections.abc import Callable, Collection, Sequence

from exporter.model import CHECK, Block, Distribution, Family, Metric, Reading, Row

LISTENER = "listener"
"""Name of the source that never goes stale: what listening counted."""


class Series:
    """Blocks by collector and metric; mutable, owned by a probe's record. No more than `max_series` series at any time.

    `number` gives each reading a number that no other reading of the process has.
    """

    def __init__(self, max_series: int, number: Callable[[], int]) -> None:
        self.dropped = 0
        self._max_series = max_series
        self._blocks: dict[str, dict[str, Block]] = {}
        self._capabilities: dict[str, dict[str, bool]] = {}
        self._up: Block | None = None
        self._number = number
        self._counted: int | None = None

    def take(self, collector: str, reading: Reading, now: float, until: float, *, complete: bool) -> None:
        """Puts a reading in place: of all of the collector's families, or, incomplete, of those it did read."""
        self._drop(collector, {family.metric.name for family in reading.families}, now, complete=complete)
        run = self._number()
        read = {family.metric.name: Block(collector, run, family, until) for family in self._capped(reading.families)}
        self._blocks.setdefault(collector, {}).update(read)
        if complete or reading.capabilities:
            self._capabilities[collector] = {capability.feature: capability.available for capability in reading.capabilities}

    def take_up(self, metric: Metric, value: int) -> None:
        """The up series after a check."""
        self._up = Block(CHECK, self._number(), Family(metric, (((), value),)), 0.0)

    def take_counters(self, version: int, families: Sequence[Family]) -> None:
        """What listening has counted so far; nothing happens when `version` has been seen."""
        if version != self._counted:
            self._counted = version
            self._blocks.pop(LISTENER, None)
            run = self._number()
            self._blocks[LISTENER] = {
                family.metric.name: Block(LISTENER, run, family, float("inf")) for family in self._capped(families)
            }

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

    def _drop(self, collector: str, names: Collection[str], now: float, *, complete: bool) -> None:
        """Makes room for families of the collector: what they replace goes, and whatever is stale, for nobody sees it."""
        for owner, blocks in self._blocks.items():
            replaced = blocks.keys() if owner == collector and complete else names if owner == collector else ()
            for name in [name for name, block in blocks.items() if name in replaced or block.until <= now]:
                del blocks[name]

    def _capped(self, families: Sequence[Family]) -> Sequence[Family]:
        """The families with whole label sets dropped, last in sort order, where the probe would have more than `max_series`."""
        held = (block.family for blocks in self._blocks.values() for block in blocks.values())
        room = self._max_series - sum(map(_size, held))
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
