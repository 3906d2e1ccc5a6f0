"""What another configuration means for the probes that run. Pure."""

from dataclasses import dataclass

from exporter.config import Configuration


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of probes, in the order of the configuration they stand in. `kept` are those that nothing has changed for."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        told = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        words = [f"{word} {', '.join(names)}" for word, names in told if names]
        return "; ".join([*words, f"{len(self.kept)} as before"])


def difference(old: Configuration, new: Configuration) -> Difference:
    """A probe is kept when its settings, secrets included, are equal, and the instance, which names its queues, is the same."""
    same = {name for name, settings in new.probes.items() if old.probes.get(name) == settings and old.instance == new.instance}
    return Difference(
        added=tuple(name for name in new.probes if name not in old.probes),
        changed=tuple(name for name in new.probes if name in old.probes and name not in same),
        removed=tuple(name for name in old.probes if name not in new.probes),
        kept=tuple(name for name in new.probes if name in same),
    )
