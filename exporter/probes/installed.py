"""Probe types that other packages bring, by the entry-point group `sidecar_exporter.probes`; ours are found here too.

The name of an entry point is the type, and its value leads to a `ProbeType`, in a module that needs to import neither the
settings nor a driver. Whatever a package does wrong is a `BrokenType`, one line that names it: it must not disturb the others.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import extract_tb
from typing import Any, Literal, get_args, get_origin

from exporter.errors import MESSAGE_LENGTH, ExporterError, ProbeError
from exporter.model import Metric, Reason
from exporter.probes import TYPES, ProbeType, lead
from exporter.probes.base import Probe, ProbeSettings
from exporter.secret import one_line

GROUP = "sidecar_exporter.probes"


class BrokenType(ExporterError):
    """A type of another package cannot be used; the message is one line, and names the package."""


class Catalogue:
    """The types that a configuration can name; mutable, made for one load.

    What is installed is read once, when a type is asked for that is not ours: nobody else waits for it.
    """

    def __init__(self) -> None:
        self._installed: tuple[EntryPoint, ...] | None = None

    @property
    def was_read(self) -> bool:
        """Whether it had to be looked up what is installed."""
        return self._installed is not None

    def installed(self) -> tuple[EntryPoint, ...]:
        """What other packages bring, ordered by type."""
        if self._installed is None:
            self._installed = tuple(sorted(entry_points(group=GROUP), key=lambda entry: entry.name))
        return self._installed

    def names(self) -> tuple[str, ...]:
        """Every type there is, ours first."""
        return tuple(dict.fromkeys((*TYPES, *(entry.name for entry in self.installed()))))

    def find(self, name: str) -> ProbeType | None:
        """The type of that name, None where there is none.

        Raises:
            BrokenType: a package brings it that cannot be used, or several do.
        """
        if name in TYPES:
            return TYPES[name]
        found = [entry for entry in self.installed() if entry.name == name]
        if len(found) > 1:
            packages = " and ".join(map(_package, found))
            raise BrokenType(f"is brought by {packages}; uninstall one of them")
        return _loaded(found[0]) if found else None

    def clashes(self) -> tuple[str, ...]:
        """A line for each type that a package brings and that is one of ours."""
        return tuple(
            f"type {entry.name} of {_package(entry)} is passed over: the built-in one wins"
            for entry in self.installed()
            if entry.name in TYPES
        )


def settings_of(name: str, row: ProbeType) -> type[ProbeSettings]:
    """The settings of a type, its driver not imported.

    Raises:
        BrokenType: it is another package's, and they are not what settings must be.
    """
    with blaming(row.package):
        model: Any = row.load_settings()
    if row.package:
        _require(row, _is_a(model, ProbeSettings), f"{row.settings} is no ProbeSettings")
        _require(row, isinstance(getattr(model, "up", None), Metric), f"{row.settings} has no metric `up`")
        _require(row, _words(model.model_fields["type"].annotation) == (name,), f"{row.settings} has no `type: Literal[{name!r}]`")
    settings: type[ProbeSettings] = model
    return settings


def prove(row: ProbeType, settings: ProbeSettings) -> None:
    """Asks settings of another package all that they will be asked, so that a mistake is told at once, and at its place.

    Raises:
        BrokenType: they raise, or answer with something else.
    """
    if not row.package:
        return
    with blaming(row.package):
        declared: Any = settings.declared()
        _ = settings.connections(), settings.own_schedules()
        with suppress(ValueError):  # a sentence for the user: the address is wrong, not the package
            _ = settings.server, tuple(settings.advice())
    metrics = declared if isinstance(declared, tuple) else ()
    names = [metric.name for metric in metrics if isinstance(metric, Metric)]
    _require(row, len(names) == len(metrics) and settings.up in metrics, "declared() is no tuple of metrics, `up` among them")
    _require(row, len(set(names)) == len(names), "declared() names a metric twice")


def probe_of(name: str) -> type[Probe[Any]]:
    """The probe of a type, which imports its driver.

    Raises:
        ProbeError: reason internal; it is another package's and cannot be used.
        ImportError: it is ours, and its driver is missing.
    """
    try:
        row = Catalogue().find(name)
        if row is None:
            raise BrokenType("is not installed any more")
        with blaming(row.package):
            found: Any = row.load_probe()
        _require(row, _is_a(found, Probe), f"{row.probe} is no Probe")
    except BrokenType as error:
        raise ProbeError(Reason.INTERNAL, one_line(f"type {name} {error}", MESSAGE_LENGTH)) from error
    probe: type[Probe[Any]] = found
    return probe


@contextmanager
def blaming(package: str) -> Iterator[None]:
    """Around code of a package: all that it raises is a BrokenType. Around our own, without a package, it changes nothing."""
    try:
        yield
    except (Exception, SystemExit) as error:  # whatever somebody else's code does, when it is imported too
        if not package or isinstance(error, BrokenType):
            raise
        raise broken(package, _why(error)) from error


def broken(package: str, problem: str) -> BrokenType:
    """What is wrong with a package, as a sentence about a type."""
    return BrokenType(f"is brought by {package}, which is broken: {problem}")


def _loaded(entry: EntryPoint) -> ProbeType:
    row = ProbeType(entry.value, entry.value, _package(entry))
    with blaming(row.package):
        found: Any = lead(entry.value)
    _require(row, isinstance(found, ProbeType), f"{entry.value} is no ProbeType")
    brought: ProbeType = found
    return replace(brought, package=row.package)


def _package(entry: EntryPoint) -> str:
    return one_line(f"{entry.dist.name} {entry.dist.version}", 80) if entry.dist else entry.value


def _require(row: ProbeType, holds: bool, problem: str) -> None:
    if not holds:
        raise broken(row.package, problem)


def _why(error: BaseException) -> str:
    """What happened and where, without the error's text, which may hold anything."""
    if isinstance(error, ImportError) and error.name:
        return f"{error.name} is missing"
    frame = extract_tb(error.__traceback__)[-1]
    file, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (frame.filename, frame.lineno)
    return f"{type(error).__name__} at {Path(file or '').name}:{line}"


def _is_a(found: object, base: type) -> bool:
    return isinstance(found, type) and issubclass(found, base)


def _words(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()
