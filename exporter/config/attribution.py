"""Dependencies that nobody has to write: a probe whose target lives on another probe's server. For checked settings only."""

from collections.abc import Mapping

from exporter.probes.base import ProbeSettings


def with_dependencies(probes: Mapping[str, ProbeSettings]) -> dict[str, ProbeSettings]:
    """The probes, each depending also on those that it rests on, unless these depend on it by what is written."""
    found = dict(probes)
    for name, settings in probes.items():
        parents = tuple(other for other in probes if other != name and _rests_on(name, other, found))
        if parents:
            found[name] = settings.model_copy(update={"depends_on": (*settings.depends_on, *parents)})
    return found


def _rests_on(name: str, other: str, probes: Mapping[str, ProbeSettings]) -> bool:
    settings = probes[name]
    return other not in settings.depends_on and settings.rests_on(probes[other]) and name not in _ancestors(other, probes)


def _ancestors(name: str, probes: Mapping[str, ProbeSettings]) -> set[str]:
    found: set[str] = set()
    open_ends = [name]
    while open_ends:
        for parent in probes[open_ends.pop()].depends_on:
            if parent not in found:
                found.add(parent)
                open_ends.append(parent)
    return found
