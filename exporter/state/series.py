"""The series of one probe: what its runs read, until it is replaced or stale. Knows no clock and no status."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from exporter.model import CHECK, Block, Distribution, Family, Metric, Reading, Row

LISTENER = "listener"
"""Name of the source that never goes stale: what listening counted."""


class Series:
    """Blocks by collector and metric; mutable, owned by a probe's record. Shows at most `max_series` series.

    `number` gives each reading a number that no other reading of the process has.
    """

    def __init__(self, max_series: int, number: Callable[[], int]) -> None:
        self.dropped = 0
        self._max_series = max_series
        self._number = number
        self._blocks: dict[str, dict[str, Block]] = {}
        self._capabilities: dict[str, dict[str, bool]] = {}
        self._up: Block | None = None
        self._counted: int | None = None
        self._sizes: dict[str, int] = {}  # series by collector: a run counts its own rows alone
        self._stale_from = float("inf")

    def take(self, collector: str, reading: Reading, now: float, until: float, *, complete: bool) -> None:
        """Puts a reading in place: of all of the collector's families, or, incomplete, of those it did read."""
        if reading.families or self._blocks.get(collector) or now >= self._stale_from:
            self._forget(collector, {family.metric.name for family in reading.families}, now, complete=complete)
            self._put(collector, reading.families, until)
        if reading.capabilities or (complete and collector in self._capabilities):
            self._capabilities[collector] = {capability.feature: capability.available for capability in reading.capabilities}

    def take_up(self, metric: Metric, value: int) -> None:
        """The up series after a check; while its value stays, it stays the same reading."""
        if self._up is None or self._up.family.rows[0][1] != value:
            self._up = Block(CHECK, self._number(), Family(metric, (((), value),)), 0.0)

    def take_counters(self, version: int, families: Sequence[Family]) -> None:
        """What listening has counted so far; nothing happens when `version` has been seen."""
        if version != self._counted:
            self._counted = version
            self._blocks.pop(LISTENER, None)
            self._put(LISTENER, families, float("inf"))

    def blocks(self, overdue: float) -> tuple[Block, ...]:
        """What is shown; the up series leaves only when the probe is overdue."""
        read = tuple(block for blocks in self._blocks.values() for block in blocks.values())
        if self._size > self._max_series:
            read = tuple(self._capped(read))
        return read if self._up is None else (Block(CHECK, self._up.run, self._up.family, overdue), *read)

    @property
    def count(self) -> int:
        """Series that are shown, stale ones that have not been replaced included, the up series not."""
        return min(self._size, self._max_series)

    @property
    def _size(self) -> int:
        return sum(self._sizes.values())

    @property
    def capabilities(self) -> tuple[tuple[str, bool], ...]:
        return tuple(sorted({feature: good for group in self._capabilities.values() for feature, good in group.items()}.items()))

    def _put(self, collector: str, families: Sequence[Family], until: float) -> None:
        run = self._number()
        blocks = self._blocks.setdefault(collector, {})
        blocks.update({one.metric.name: Block(collector, run, one, until) for one in families})
        self._sizes[collector] = sum(_size(block.family) for block in blocks.values())
        self._stale_from = min(self._stale_from, until)
        if self._size > self._max_series:
            held = [block for blocks in self._blocks.values() for block in blocks.values()]
            shown = sum(_size(block.family) for block in self._capped(held) if block.collector == collector)
            self.dropped += sum(map(_size, families)) - shown

    def _forget(self, collector: str, names: Collection[str], now: float, *, complete: bool) -> None:
        """What a reading of the collector replaces goes, and whatever is stale, for nobody sees it."""
        for owner, blocks in self._blocks.items():
            replaced = blocks.keys() if owner == collector and complete else names if owner == collector else ()
            gone = [name for name, block in blocks.items() if name in replaced or block.until <= now]
            for name in gone:
                del blocks[name]
            if gone:
                self._sizes[owner] = sum(_size(block.family) for block in blocks.values())
        untils = (block.until for blocks in self._blocks.values() for block in blocks.values())
        self._stale_from = min(untils, default=float("inf"))

    def _capped(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The blocks without the whole label sets, last in sort order by metric and labels, that are too many."""
        room = self._max_series
        for block in sorted(blocks, key=lambda block: block.family.metric.name):
            size = _size(block.family)
            if size <= room:
                room -= size
                yield block
                continue
            rows: list[Row] = []
            for row in sorted(block.family.rows, key=lambda row: row[0]):
                if _weight(row) > room:
                    break
                room -= _weight(row)
                rows.append(row)
            room = 0
            yield replace(block, run=self._number(), family=Family(block.family.metric, tuple(rows)))


def _weight(row: Row) -> int:
    """Series of one label set: a distribution has its buckets, +Inf, sum and count."""
    value = row[1]
    return len(value.bounds) + 3 if isinstance(value, Distribution) else 1


def _size(family: Family) -> int:
    return sum(map(_weight, family.rows))
