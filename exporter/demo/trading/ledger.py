"""What the platform really did: a line for each deed, written by itself once it was done, never read back from a server.

A line is `time, kind, state, name, id`, parted by tabs; a kind is trade, opportunity or task. Several processes append to one
file: a line is one write(2) to a file opened with O_APPEND, so lines do not mix.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Deed:
    """`name` is the symbol of a trade or an opportunity, or the name of a task; `id` is what the platform calls it by."""

    kind: str
    state: str
    name: str
    id: str


class Ledger:
    """The file; mutable in nothing but what stands there. Without one nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @classmethod
    def named_by(cls, environment: Mapping[str, str]) -> Self:
        """The one that TRADING_LEDGER names; where it is not set, or empty, nothing is kept."""
        named = environment.get("TRADING_LEDGER")
        return cls(Path(named) if named else None)

    def record(self, *deeds: Deed) -> None:
        """Appends them. Blocks for the length of one write to a local file."""
        if self._path is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = "".join(f"{now}\t{deed.kind}\t{deed.state}\t{deed.name}\t{deed.id}\n" for deed in deeds)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, lines.encode())
        finally:
            os.close(file)

    def deeds(self) -> Iterator[Deed]:
        """All that stand there; none where nothing was recorded yet."""
        if self._path is not None and self._path.exists():
            for line in self._path.read_text().splitlines():
                yield Deed(*line.split("\t")[1:])

    def sums(self) -> Counter[tuple[str, str, str]]:
        """How many deeds there are of each kind, state and name."""
        return Counter((deed.kind, deed.state, deed.name) for deed in self.deeds())
