"""The probe types, one row each: where its settings and its probe are. Settings know no driver; probes are imported late."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from exporter.probes.base import Probe, ProbeSettings


@dataclass(frozen=True, slots=True)
class ProbeType:
    """Import strings `module:Class` of a type's settings and of its probe, which imports a driver.

    `package` is the name and version of what brings it, empty for ours; a package leaves it to us.
    """

    settings: str
    probe: str
    package: str = ""

    def load_settings(self) -> type[ProbeSettings]:
        return lead(self.settings)  # type: ignore[no-any-return]  # checked by the contract test of every type

    def load_probe(self) -> type[Probe[Any]]:
        return lead(self.probe)  # type: ignore[no-any-return]  # checked by the contract test of every type


def lead(place: str) -> Any:
    """What an import string leads to.

    Raises:
        ImportError: nothing is there; `name` says what is missing.
    """
    module, _, name = place.partition(":")
    found = getattr(import_module(module), name, None)
    if found is None:
        raise ImportError(f"{place} is missing", name=place)
    return found


TYPES: dict[str, ProbeType] = {
    "postgres": ProbeType("exporter.probes.postgres.settings:PostgresSettings", "exporter.probes.postgres.probe:PostgresProbe"),
    "redis": ProbeType("exporter.probes.redis.settings:RedisSettings", "exporter.probes.redis.probe:RedisProbe"),
    "rabbitmq": ProbeType("exporter.probes.rabbitmq.settings:RabbitmqSettings", "exporter.probes.rabbitmq.probe:RabbitmqProbe"),
    "celery": ProbeType("exporter.probes.celery.settings:CelerySettings", "exporter.probes.celery.probe:CeleryProbe"),
    "http": ProbeType("exporter.probes.http.settings:HttpSettings", "exporter.probes.http.probe:HttpProbe"),
}
