"""Probes from their settings: each type's code is imported off the loop, within a bound, and delays no other type."""

import asyncio
from collections.abc import Mapping
from typing import Any

from exporter.drivers.thread import in_thread
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.probes.base import Probe, ProbeSettings, Runtime
from exporter.probes.installed import probe_of

LOAD_SECONDS = 10.0
"""For the code of one type."""

Loaded = Probe[Any] | ProbeError
"""A probe, or why it could not be made."""


def enabled(probes: Mapping[str, ProbeSettings]) -> dict[str, ProbeSettings]:
    """Those that are to run."""
    return {name: settings for name, settings in probes.items() if settings.enabled}


def by_type(probes: Mapping[str, ProbeSettings]) -> list[dict[str, ProbeSettings]]:
    """The probes in groups of one type."""
    kinds = dict.fromkeys(settings.type for settings in probes.values())
    return [{name: settings for name, settings in probes.items() if settings.type == kind} for kind in kinds]


async def load(probes: Mapping[str, ProbeSettings], runtime: Runtime) -> dict[str, Loaded]:
    """All of them, within LOAD_SECONDS."""
    some = await asyncio.gather(*(of_one_type(group, runtime) for group in by_type(probes)))
    return {name: loaded for group in some for name, loaded in group.items()}


async def of_one_type(probes: Mapping[str, ProbeSettings], runtime: Runtime) -> dict[str, Loaded]:
    """Probes of one type, at least one, within LOAD_SECONDS; code that cannot be had by then is a finding of each."""
    kind = next(iter(probes.values())).type

    def make() -> dict[str, Loaded]:
        return {name: made(name, settings, runtime) for name, settings in probes.items()}

    try:
        async with asyncio.timeout(LOAD_SECONDS):
            return await in_thread(f"load {kind}", make)
    except TimeoutError:
        told = f"type {kind} could not be loaded within {LOAD_SECONDS:.0f}s: its files may hang"
    except RuntimeError as error:
        told = f"type {kind} cannot be loaded: {error} in its code"
    return dict.fromkeys(probes, ProbeError(Reason.INTERNAL, told))


def made(name: str, settings: ProbeSettings, runtime: Runtime) -> Loaded:
    """One probe. Blocks for the length of its driver's import, if it is the first of its type."""
    try:
        return probe_of(settings.type)(name, settings, runtime)
    except ProbeError as error:
        return error
    except ImportError as error:
        return ProbeError(Reason.INTERNAL, f"type {settings.type} cannot be loaded: {error.name} is missing; install it again")
    except Exception as error:  # noqa: BLE001  # around one probe, which has no run yet; its text may hold anything
        return ProbeError(Reason.INTERNAL, f"unexpected {type(error).__name__} while it was made; please report it")
