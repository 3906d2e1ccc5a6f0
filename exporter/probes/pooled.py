"""What probes with a pool have in common: the check owns one connection, collectors share the others. Knows no driver."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, Protocol, TypeVar

from pydantic import Field

from exporter.drivers.kept import Kept, Lease
from exporter.model import CHECK, PoolUse, Reading
from exporter.probes.base import Collector, Probe, ProbeSettings, Runtime, Settings
from exporter.probes.fields import Count


def by_name(value: object) -> object:
    """Collectors as they are written: a list of names means the same as a mapping of names to nothing.

    Raises:
        ValueError: it is neither; with the sentence for the user.
    """
    if isinstance(value, dict):
        return {name: {} if own is None else own for name, own in value.items()}
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    raise ValueError("not a list of collectors, nor a mapping of them")


class PoolSettings(Settings):
    """Connections to the target: the check owns one, collectors share the rest."""

    size: Annotated[Count, Field(ge=2, le=50, description="Connections that are kept, the check's included.")] = 3
    max_overflow: Annotated[Count, Field(ge=0, le=50, description="Further ones when all of these are in use.")] = 0

    @property
    def limit(self) -> int:
        return self.size + self.max_overflow


class PooledSettings(ProbeSettings):
    """The keys of a probe with a pool."""

    pool: Annotated[
        PoolSettings, Field(description="Connections to the server: the check has one for itself, the collectors share the rest.")
    ] = PoolSettings()

    def connections(self) -> int | None:
        return self.pool.limit


class Connection(Protocol):
    """What a pool must know of a connection."""

    @property
    def alive(self) -> bool:
        """Whether it can still be used after it has been idle."""

    def abort(self) -> None:
        """Ends it at once, without waiting and without raising."""


S = TypeVar("S", bound=PooledSettings)
C = TypeVar("C", bound=Connection)


class PooledProbe(Probe[S], Generic[S, C]):
    """Mutable: it keeps connections, at most `pool` of them, made on demand."""

    def __init__(self, name: str, settings: S, runtime: Runtime) -> None:
        super().__init__(name, settings, runtime)
        self._checking: Kept[C] = self._kept(1)
        self._collecting: Kept[C] = self._kept(settings.pool.limit - 1)

    @abstractmethod
    async def _connect(self, lease: Lease) -> C:
        """A new connection; the lease is told how to abort it as soon as there is a socket."""

    def pool(self) -> PoolUse:
        both = (self._checking, self._collecting)
        return PoolUse(sum(kept.idle for kept in both), sum(kept.used for kept in both), sum(kept.limit for kept in both))

    @property
    def pool_in_words(self) -> str:
        """For the check's detail."""
        pool = self.pool()
        return f"{pool.idle + pool.used} of {pool.limit} connections"

    def drop(self, collector: str) -> None:
        for kept in (self._checking, self._collecting):
            kept.drop(collector)
            if collector == CHECK:  # what the check could not reach, idle connections cannot reach either
                kept.drop_idle()

    async def aclose(self) -> None:
        self._checking.close()
        self._collecting.close()

    def _kept(self, limit: int) -> Kept[C]:
        return Kept(limit, self._connect, abort=lambda connection: connection.abort(), alive=lambda connection: connection.alive)

    def _collector(self, name: str, run: Callable[[], Awaitable[Reading]]) -> Collector:
        """A collector on its own schedule, or the probe's."""
        schedule = self.settings.schedule_of(name)
        return Collector(name, schedule.interval_seconds, schedule.timeout_seconds, run, schedule.stale_seconds)
