"""Finds what a request names, by name or alias. Knows no path."""

from http import HTTPStatus

from exporter.model import ProbeStatus, Snapshot
from exporter.web.answers import Declined
from exporter.web.wording import listing


def find(snapshot: Snapshot, name: str) -> ProbeStatus:
    """The probe of that name or alias.

    Raises:
        Declined: 404, naming what exists and never what was asked for.
    """
    for probe in snapshot.probes:
        if name == probe.name or name in probe.aliases:
            return probe
    exist = sorted(name for probe in snapshot.probes for name in (probe.name, *probe.aliases))
    raise Declined(HTTPStatus.NOT_FOUND, f"no such probe; there are: {listing(exist) or 'none'}")


def own_names(snapshot: Snapshot, asked: frozenset[str]) -> frozenset[str]:
    """The names of the probes that are meant by `asked`, where aliases count as names and unknown ones as nothing."""
    return frozenset(probe.name for probe in snapshot.probes if asked & {probe.name, *probe.aliases})
