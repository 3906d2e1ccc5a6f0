"""The reference of the configuration as Markdown: prose from a template, and of every key what its settings say of it.

Reads keys, defaults and meanings from the schema. Knows no key by name; the prose, which does, stands in the template.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic.json_schema import JsonSchemaValue

from exporter.config.top import NEVER_DEFAULT
from exporter.generate.schema import VARIABLE, reference, schema_of
from exporter.probes.base import ProbeSettings
from exporter.probes.fields import format_duration
from exporter.retry import PRESETS

OWN_NAME = "NAME"
"""What stands in a key for a name of the user's."""
EXAMPLE = "example.yaml"
"""A file that a type may have beside its settings."""

_FOLDER = Path(__file__).parent / "templates"
_DERIVED = "; default "  # what follows it in a description is a default that depends on something else
_DEEPEST = 4  # keys within keys: a third party's settings may hold themselves


def text_of(types: Mapping[str, type[ProbeSettings]]) -> str:
    """The reference of a file in which these types of probes can stand, two of them at least."""
    environment = Environment(loader=FileSystemLoader(_FOLDER), undefined=StrictUndefined, autoescape=False, trim_blocks=True)  # noqa: S701  # Markdown
    environment.filters["duration"] = lambda seconds: f"`{format_duration(seconds)}`" if seconds else ""
    schema = Schema(schema_of(types))
    told = [Type(name, schema.settings_of(name), _example(model)) for name, model in types.items()]
    presets = [
        (name, policy, _listed(kind for kind, model in types.items() if model.default_retry == name))
        for name, policy in PRESETS.items()
    ]
    template = environment.get_template("configuration.md")
    return template.render(schema=schema, types=told, presets=presets, never_default=_listed(NEVER_DEFAULT)) + "\n"


Names = Collection[str]


@dataclass(frozen=True, slots=True)
class Type:
    """A probe type: its name, the schema of its settings, and its example, which may be empty."""

    name: str
    settings: JsonSchemaValue
    example: str


def _example(model: type[ProbeSettings]) -> str:
    package = model.__module__.rpartition(".")[0]
    file = files(package) / EXAMPLE if package else None
    return file.read_text(encoding="utf-8").strip() if file is not None and file.is_file() else ""


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema, as the template asks for it."""

    root: JsonSchemaValue

    def settings_of(self, type_name: str) -> JsonSchemaValue:
        """The settings of a probe type."""
        found: list[JsonSchemaValue] = [self._resolved(arm) for arm in self._probe["oneOf"]]
        return next(settings for settings in found if settings["properties"]["type"]["const"] == type_name)

    @property
    def common(self) -> JsonSchemaValue:
        """The keys that every type has."""
        settings = self._resolved(self._probe["oneOf"][0])
        shared = {name: settings["properties"][name] for name in ProbeSettings.model_fields if name != "type"}
        return {"properties": shared}

    def own(self, settings: JsonSchemaValue) -> JsonSchemaValue:
        """The keys that a type does not share with the others."""
        found = settings["properties"].items()
        return settings | {"properties": {name: node for name, node in found if name not in self.common["properties"]}}

    def named(self, definition: str) -> JsonSchemaValue:
        found: JsonSchemaValue = self.root["$defs"][definition]
        return found

    def table(self, node: JsonSchemaValue, only: Names = (), without: Names = (), flat: Names = ()) -> str:
        """The keys of a mapping as a table; also those within them, but for those of `flat`."""
        chosen = {name: inner for name, inner in node["properties"].items() if name not in without and (not only or name in only)}
        rows = (
            row
            for name in chosen
            for row in self._rows(node | {"properties": {name: chosen[name]}}, "", 1 if name in flat else _DEEPEST)
        )
        return "\n".join(("| key | default | meaning |", "|---|---|---|", *rows))

    @property
    def _probe(self) -> JsonSchemaValue:
        found: JsonSchemaValue = self.root["properties"]["probes"]["additionalProperties"]
        return found

    def _rows(self, node: JsonSchemaValue, prefix: str, depth: int) -> Iterator[str]:
        for name, inner in node["properties"].items():
            default = "required" if name in node.get("required", ()) else _default(inner)
            yield f"| `{prefix}{name}` | {default} | {_meaning(inner)} |".replace("|  |", "| |")
            if depth > 1:
                for step, below in self._below(inner):
                    yield from self._rows(below, f"{prefix}{name}.{step}", depth - 1)

    def _below(self, node: JsonSchemaValue) -> Iterator[tuple[str, JsonSchemaValue]]:
        """The mappings that can stand as the value of a key, or under names of the user's below it."""
        for arm in _arms(node):
            resolved = self._resolved(arm)
            if "properties" in resolved:
                yield "", resolved
            elif isinstance(resolved.get("additionalProperties"), dict):
                yield from ((f"{OWN_NAME}.{step}", below) for step, below in self._below(resolved["additionalProperties"]))

    def _resolved(self, node: JsonSchemaValue) -> JsonSchemaValue:
        return self.named(node["$ref"].rpartition("/")[2]) if "$ref" in node else node


def _arms(node: JsonSchemaValue) -> Iterator[JsonSchemaValue]:
    """What a value may be, one by one, but for a variable in its place."""
    yield from (arm for arm in node.get("anyOf", [node]) if arm.get("$ref") != reference(VARIABLE))


def _default(node: JsonSchemaValue) -> str:
    if "default" in node:
        return f"`{_as_yaml(node['default'])}`"
    derived = node["description"].removesuffix(".").partition(_DERIVED)[2]
    return derived if " " in derived or not derived else f"`{derived}`"


def _as_yaml(value: Any) -> str:
    """A value in flow style."""
    match value:
        case list():
            return f"[{', '.join(map(_as_yaml, value))}]"
        case bool():
            return str(value).lower()
    return str(value)


def _meaning(node: JsonSchemaValue) -> str:
    """The description without its default, and what values there are where these are few."""
    told = f"{node['description'].partition(_DERIVED)[0].removesuffix('.')}.".replace("|", "\\|")
    if "const" in node:
        return f"{told[:-1]}: `{node['const']}`."
    words, several = _words(_arms(node)), _words(_items(node))
    if words or several:
        return f"{told} {'One' if words else 'Any'} of {_listed(words or several)}."
    arms = [arm for arm in _arms(node) if arm.get("type") != "null"]
    bounds = _bounds(arms[0]) if len(arms) == 1 else ""
    return f"{told[:-1]} ({bounds})." if bounds else told


def _words(arms: Iterable[JsonSchemaValue]) -> list[str]:
    return [word for arm in arms for word in arm.get("enum", [arm["const"]] if "const" in arm else [])]


def _items(node: JsonSchemaValue) -> list[JsonSchemaValue]:
    return [arm for array in _arms(node) if "items" in array for arm in _arms(array["items"])]


def _bounds(node: JsonSchemaValue) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    if least is None or most is None:
        return f"at least {least}" if least else ""
    return f"{least} to {most}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
