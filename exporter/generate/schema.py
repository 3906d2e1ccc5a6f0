"""The configuration as JSON Schema (2020-12), by which editors complete and check a file while it is written.

Pydantic makes it from the settings. What is added here is how a file differs from what pydantic is given: `${…}` may stand for
any scalar, numbers and switches may stand in quotes, durations have a unit. Knows no key and no probe type by name.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from exporter.config.top import DEFAULT_KEYS, SECTIONS, TopSettings
from exporter.probes.base import ProbeSettings, Settings
from exporter.probes.fields import Name, format_duration

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ABOUT = {"title": "sidecar-exporter", "description": "What sidecar-exporter probes, how often, and where it serves what it saw."}

VARIABLE = "Variable"
SHARED = {
    "Address": "HOST:PORT; without a host, on all interfaces.",
    "Duration": "A time with its unit: d, h, m, s or ms.",
    "Label": "A label's name, none that Prometheus or the exporter needs.",
    "Method": "A request method; case makes no difference.",
    "Metric": "A metric's name, none of the exporter's own.",
    "Name": "At most 63 letters, digits, `_`, `.` and `-`, the first a letter or digit.",
    "Size": "A number of bytes, with or without a unit.",
    "Status": "An HTTP status, or a class of them.",
    "Wait": "A time with its unit, which may be 0s.",
    VARIABLE: "A value from outside: ${NAME}, ${NAME:-default}, ${NAME:?message} or ${file:/path}.",
}
"""Texts that look the same wherever they stand, by the kind that `exporter.probes.fields.written` gives them."""

_EXPANDED = r"\$\{"
_IN_QUOTES = {"boolean": "^(true|false)$", "integer": "^-?[0-9]{1,18}$", "number": r"^-?[0-9]+(\.[0-9]+)?$"}
_RENAMED = {"ge": "minimum", "le": "maximum"}  # pydantic 2.14 leaves its own names behind a validator of ours
_DROPPED = ("title", "discriminator")  # names of classes and fields, and a word of OpenAPI's
_FIRST = ("$schema", "title", "description", "$ref", "type", "const", "default", "examples")


def text_of(types: Mapping[str, type[ProbeSettings]]) -> str:
    """The schema as a file."""
    return json.dumps(schema_of(types), indent=2, ensure_ascii=False) + "\n"


def schema_of(types: Mapping[str, type[ProbeSettings]]) -> JsonSchemaValue:
    """The schema of a file in which these types of probes can stand, two of them at least."""
    writing = _Writing()
    told = writing.part(_file(types).model_json_schema(schema_generator=_Plain)) | ABOUT
    told["$defs"] = dict(sorted((told["$defs"] | writing.shared).items()))
    _describe(told, told["$defs"])
    ordered: JsonSchemaValue = _ordered({"$schema": DIALECT, **told})
    return ordered


def _file(types: Mapping[str, type[ProbeSettings]]) -> type[BaseModel]:
    """A model of the whole file; the loader has none, for it tells problems of one probe beside those of another."""
    probe: Any = Annotated[reduce(or_, types.values()), Field(discriminator="type")]
    common = {name: (field.annotation, field) for name, field in ProbeSettings.model_fields.items() if name in DEFAULT_KEYS}
    defaults = create_model("Defaults", __base__=Settings, **common)  # type: ignore[call-overload]  # as above
    top = TopSettings.model_fields
    shape: dict[str, Any] = {name: top[name].annotation for name in SECTIONS} | {"defaults": defaults}
    fields: dict[str, Any] = {name: (annotation | None, top[name]) for name, annotation in shape.items()}
    fields["probes"] = (dict[Name, probe], Field(min_length=1, description=top["probes"].description))
    return create_model("File", __base__=TopSettings, **fields)


class _Plain(GenerateJsonSchema):
    """Pydantic's own, with a type's own keys before the common ones, and defaults as somebody would write them."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        told, model = super().model_schema(schema), schema["cls"]
        found = told.get("properties", {})
        own = [name for name in model.__annotations__ if name in found] if issubclass(model, ProbeSettings) else []
        return told | {"properties": {name: found[name] for name in dict.fromkeys((*own, *found))}}

    def encode_default(self, dft: object) -> Any:
        """A mapping's default stands in its own fields; one of names to nothing is a list."""
        if isinstance(dft, BaseModel):
            return None
        if isinstance(dft, dict) and dft and all(isinstance(value, BaseModel) for value in dft.values()):
            return list(dft)
        return str(dft) if is_dataclass(dft) else super().encode_default(dft)


class _Writing:
    """Turns pydantic's schema into that of a file, part by part; mutable, it collects the texts described once."""

    def __init__(self) -> None:
        self.shared = {VARIABLE: {"type": "string", "pattern": _EXPANDED, "description": SHARED[VARIABLE]}}

    def part(self, node: JsonSchemaValue) -> JsonSchemaValue:
        """One schema with all that are within it."""
        if node.get("title") in SHARED:
            return self._reference(node)
        told: JsonSchemaValue = {}
        for key, value in node.items():
            if key not in _DROPPED and not (key == "default" and value is None):
                told |= self._keyword(_RENAMED.get(key, key), value)
        return _with_units(_opened(told))

    def _keyword(self, key: str, value: Any) -> JsonSchemaValue:
        match key:
            case "properties" | "$defs":
                return {key: {name: self.part(inner) for name, inner in value.items()}}
            case "anyOf" | "oneOf":
                parts = [self.part(inner) for inner in value]
                return {key: [arm for part in parts for arm in (part["anyOf"] if part.keys() == {"anyOf"} else [part])]}
            case "items" | "additionalProperties" if isinstance(value, dict):
                return {key: self.part(value)}
            case "patternProperties":  # pydantic's way to say what keys look like, which lets all others pass
                ((pattern, inner),) = value.items()
                return {"additionalProperties": self.part(inner), "propertyNames": {"pattern": pattern}}
            case "propertyNames" if "enum" not in value:
                return {}
        return {key: value}

    def _reference(self, node: JsonSchemaValue) -> JsonSchemaValue:
        kind = node["title"]
        self.shared[kind] = {
            "type": "string",
            "pattern": f"{node['pattern']}|{_EXPANDED}",
            "description": SHARED[kind],
            **({"examples": node["examples"]} if node["examples"] else {}),
        }
        return _with_units({"$ref": reference(kind)} | {key: node[key] for key in ("description", "default") if key in node})


def _opened(node: JsonSchemaValue) -> JsonSchemaValue:
    """A number, a switch or a word of a few, with what else a file can have there."""
    kind = node.get("type")
    if kind in _IN_QUOTES:
        return node | {"type": [kind, "string"], "pattern": f"{_IN_QUOTES[kind]}|{_EXPANDED}"}
    if "enum" in node:
        rest = {key: value for key, value in node.items() if key not in ("enum", "type")}
        return rest | {"anyOf": [{"enum": node["enum"]}, {"$ref": reference(VARIABLE)}]}
    return node


def _with_units(node: JsonSchemaValue) -> JsonSchemaValue:
    """A duration's default, which settings have in seconds, as it is written."""
    arms = (node, *node.get("anyOf", ()))
    is_time = any(arm.get("$ref") in (reference("Duration"), reference("Wait")) for arm in arms)
    return node | {"default": format_duration(node["default"])} if is_time and "default" in node else node


def reference(kind: str) -> str:
    """What leads to a definition."""
    return f"#/$defs/{kind}"


def _describe(node: JsonSchemaValue, definitions: Mapping[str, JsonSchemaValue]) -> None:
    """Gives a description to each property that has none: that of what it refers to, or of the common key it refines."""
    for inner in _within(node):
        for name, described in inner.get("properties", {}).items():
            if "description" not in described:
                arms = (described, *described.get("anyOf", ()))
                refers = [definitions[arm["$ref"].rpartition("/")[2]] for arm in arms if "$ref" in arm]
                common = ProbeSettings.model_fields.get(name)
                described["description"] = refers[0]["description"] if refers else (common.description if common else name)


def _within(node: Any) -> Iterator[JsonSchemaValue]:
    """Every mapping within a schema, the schema itself included."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _within(inner)


def _ordered(node: Any, *, are_names: bool = False) -> Any:
    """The same with its keywords in one order, whatever pydantic's; the names of properties stay in theirs."""
    if isinstance(node, list):
        return [_ordered(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    places = {key: place for place, key in enumerate(_FIRST)}
    keys = node if are_names else sorted(node, key=lambda key: (places.get(key, len(places)), key))
    return {key: _ordered(node[key], are_names=key in ("properties", "$defs") and not are_names) for key in keys}
