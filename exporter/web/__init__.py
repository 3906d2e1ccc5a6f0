"""What clients see: health, metrics, the status page and the operators' POSTs, all answered from memory.

This file declares what the surface reads and asks for; `routes` builds the application from it, `server` listens. The
surface knows no target, no schedule and no configuration file: a GET reads a snapshot, a POST goes through `Commands`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from exporter.config import Web
from exporter.errors import ExporterError
from exporter.model import History, Recent, Snapshot


@dataclass(frozen=True, slots=True)
class Sources:
    """What answers are made of; every callable returns at once and raises nothing.

    `now` is monotonic seconds, on the clock of the snapshot's moments; `wall` is Unix seconds. `metrics(openmetrics, probe)`
    gives the whole uncompressed body, of all probes or of the one named (by its own name, never an alias). `recent` and
    `history` tell of the past of the probe of that own name, one of the snapshot's. `web` is what holds now: a reload
    may change it.
    """

    snapshot: Callable[[], Snapshot]
    metrics: Callable[[bool, str | None], bytes]
    now: Callable[[], float]
    wall: Callable[[], float]
    version: str
    web: Callable[[], Web]
    recent: Callable[[str], Recent]
    history: Callable[[str], History]


@dataclass(slots=True)
class Lifecycle:
    """Where the process stands between start and end. Mutable: the app sets it, /startupz and /readyz read it.

    `started` once the configuration is loaded and the port is served; `draining` from SIGTERM on.
    """

    started: bool = False
    draining: bool = False


class Refused(ExporterError):
    """A command cannot be carried out now; the message is one safe sentence for the operator (409)."""


class Commands(Protocol):
    """What an authorised POST may ask; each returns one sentence saying what happened, within its own deadline.

    Raises:
        Refused: it cannot be done now.
    """

    async def reload(self) -> str:
        """Reads the configuration again."""

    async def run(self, probe: str) -> str:
        """Asks the schedule for a check of the probe (its own name) now."""
