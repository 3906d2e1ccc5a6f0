"""The probe types, one row each: where its settings and its probe are. Settings know no driver; probes are imported late."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from exporter.probes.base import Probe, ProbeSettings


@dataclass(frozen=True, slots=True)
class ProbeType:
    """Import strings `module:Class` of a type's settings and of its probe, which imports a driver."""

    settings: str
    probe: str

    def load_settings(self) -> type[ProbeSettings]:
        return _load(self.settings)  # type: ignore[no-any-return]  # checked by the contract test of every type

    def load_probe(self) -> type[Probe[Any]]:
        return _load(self.probe)  # type: ignore[no-any-return]  # checked by the contract test of every type


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


TYPES: dict[str, ProbeType] = {
    "postgres": ProbeType("exporter.probes.postgres.settings:PostgresSettings", "exporter.probes.postgres.probe:PostgresProbe"),
    "redis": ProbeType("exporter.probes.redis.settings:RedisSettings", "exporter.probes.redis.probe:RedisProbe"),
    "rabbitmq": ProbeType("exporter.probes.rabbitmq.settings:RabbitmqSettings", "exporter.probes.rabbitmq.probe:RabbitmqProbe"),
    "celery": ProbeType("exporter.probes.celery.settings:CelerySettings", "exporter.probes.celery.probe:CeleryProbe"),
    "http": ProbeType("exporter.probes.http.settings:HttpSettings", "exporter.probes.http.probe:HttpProbe"),
}
