"""Our JSON Schema as an editor uses it: on a file as it is written, nothing expanded and nothing converted."""

from functools import cache
from importlib import import_module
from typing import Any

from exporter.config.document import as_python, parse
from exporter.config.findings import Findings
from exporter.generate import schema
from exporter.probes import TYPES
from exporter.probes.base import ProbeSettings


def types() -> dict[str, type[ProbeSettings]]:
    """The settings of every built-in type."""
    return {name: row.load_settings() for name, row in TYPES.items()}


@cache
def validator() -> Any:
    """Of jsonschema, which has no types; the schema is held to its dialect first."""
    made = schema.schema_of(types())
    kind = import_module("jsonschema").Draft202012Validator
    kind.check_schema(made)
    return kind(made)


def tree(content: bytes) -> object | None:
    """What a YAML parser makes of a file; None where none could make anything of it."""
    findings = Findings()
    root = parse(content, "c.yaml", findings)
    return None if root is None or findings else as_python(root)


def mistakes(content: bytes) -> list[str]:
    """What is wrong with a file that can be parsed."""
    written = tree(content)
    assert written is not None
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(written)]
