"""What can be made from the settings: files for people and for their editors. Knows no driver and no running exporter."""

from importlib import import_module

WHAT = {
    "docs": "the reference of the configuration file, as Markdown",
    "schema": "the JSON Schema of the configuration file, for editors",
}
"""What can be asked for, each a module of this folder whose `text()` makes it."""


def generated(what: str) -> str:
    """The text of one of `WHAT`. Its module is imported now: whoever runs the exporter need not wait for it."""
    text = import_module(f"exporter.generate.{what}").text()
    return str(text)
