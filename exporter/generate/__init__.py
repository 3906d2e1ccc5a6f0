"""What can be made from the settings: files for people and for their editors. Knows no driver and no running exporter."""

from importlib import import_module

from exporter.probes.base import ProbeSettings
from exporter.probes.installed import BrokenType, Catalogue, blaming, settings_of

WHAT = {
    "docs": "the reference of the configuration file, as Markdown",
    "schema": "the JSON Schema of the configuration file, for editors",
}
"""What can be asked for, each a module of this folder that makes it by `text_of(types)`."""


def generated(what: str) -> tuple[str, tuple[str, ...]]:
    """One of `WHAT`, for all types there are, and a line for each installed one that had to be left out.

    Its module is imported now: whoever runs the exporter need not wait for it.
    """
    types, left_out = every_type()
    return str(import_module(f"exporter.generate.{what}").text_of(types)), left_out


def every_type() -> tuple[dict[str, type[ProbeSettings]], tuple[str, ...]]:
    """The settings of every type that can be used, ours first, and what is said of the others."""
    catalogue = Catalogue()
    found: dict[str, type[ProbeSettings]] = {}
    left_out = list(catalogue.clashes())
    for name in catalogue.names():
        try:
            found |= _described(name, catalogue)
        except BrokenType as error:
            left_out.append(f"type {name} {error}")
    return found, tuple(left_out)


def _described(name: str, catalogue: Catalogue) -> dict[str, type[ProbeSettings]]:
    row = catalogue.find(name)
    if row is None:
        return {}
    model = settings_of(name, row)
    with blaming(row.package):
        model.model_json_schema()
    return {name: model}
