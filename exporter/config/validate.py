"""Field rules: hands a section to its pydantic model, and turns what pydantic says into our sentences at our places.

Pydantic's own texts are never shown: they repeat what was written, secrets too. Knows no rule between fields.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from exporter.config.document import Entry, MappingNode, Node, ScalarNode, SequenceNode, as_python, below
from exporter.config.findings import Findings, Place, did_you_mean, listed
from exporter.config.section import Section

M = TypeVar("M", bound=BaseModel)

_SHAPES = {
    "dict_type": "not a mapping; write `key: value` lines below it",
    "model_type": "not a mapping; write `key: value` lines below it",
    "model_attributes_type": "not a mapping; write `key: value` lines below it",
    "tuple_type": "not a list; write `[a, b]`",
    "list_type": "not a list; write `[a, b]`",
    "string_type": "not text; put it in quotes",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}
_MAPPINGS = ("dict_type", "model_type", "model_attributes_type")


def validate(model: type[M], section: Section, findings: Findings) -> M | None:
    """The section's settings.

    When fields have problems these are added to `findings`, and the settings are those of the sound fields alone, so that
    rules between fields can still be checked; None when not even these hold without a field that is missing.
    """
    written = {key: as_python(entry.node) for key, entry in section.entries.items()}
    try:
        return model.model_validate(written)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    for found in _told(details, section, model):
        findings.add(found.place, found.path, found.message)
    unsound = {str(detail["loc"][0]) for detail in details if detail["loc"]}
    try:
        return model.model_validate({key: value for key, value in written.items() if key not in unsound})
    except ValidationError:
        return None


@dataclass(frozen=True, slots=True)
class _Told:
    place: Place
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where an error belongs: `node` is the value there, None for one that is missing, and for an error of the key itself.

    `keys` lead there from the model.
    """

    place: Place
    path: str
    keys: tuple[str | int, ...]
    node: Node | None
    of_key: bool = False


def _told(details: list[ErrorDetails], section: Section, model: type[BaseModel]) -> Iterator[_Told]:
    found: dict[tuple[str, bool], list[tuple[ErrorDetails, _Spot]]] = {}
    for detail in details:
        spot = _spot(detail, section)
        found.setdefault((spot.path, spot.of_key), []).append((detail, spot))
    for (path, of_key), here in found.items():
        # an error above another one says only that something below it is wrong, or that another arm of a union does not fit
        if of_key or not any(other.startswith((f"{path}.", f"{path}[")) for other, _ in found):
            spot = here[0][1]
            yield _Told(spot.place, path, _sentence([detail for detail, _ in here], spot, model))


def _spot(detail: ErrorDetails, section: Section) -> _Spot:
    if not detail["loc"]:
        return _Spot(section.place, section.path, (), None)
    first, *rest = detail["loc"]
    entry = section.entry(str(first))
    path = section.path_of(str(first))
    if entry is None:
        return _Spot(section.place, path, (first,), None)
    if detail["type"] == "extra_forbidden" and not rest:
        return _Spot(entry.place, path, (first,), entry.node)
    return _walk(detail["type"], rest, entry, path, (first,))


def _walk(kind: str, rest: list[int | str], entry: Entry, path: str, keys: tuple[str | int, ...]) -> _Spot:
    """Follows pydantic's location down the tree, passing over its own marks: the arms of unions have one."""
    for index, step in enumerate(rest):
        is_last = index == len(rest) - 1
        if step == "[key]":
            return _Spot(entry.place, path, keys, None, of_key=True)
        child = _child(entry.node, step)
        if child is None and kind == "missing" and is_last:
            return _Spot(entry.place, below(path, step), (*keys, step), None)
        if child is not None:
            key, entry = child
            path, keys = below(path, key), (*keys, step)
    is_key = kind == "extra_forbidden"
    return _Spot(entry.place if is_key else entry.node.place, path, keys, entry.node)


def _child(node: Node, step: int | str) -> tuple[int | str, Entry] | None:
    """The key and entry that a step of pydantic's leads to: in a list that is short for a mapping, the item of that name."""
    if isinstance(node, MappingNode):
        entry = node.entries.get(str(step))
        return None if entry is None else (step, entry)
    for index, item in enumerate(node.items if isinstance(node, SequenceNode) else ()):
        if step == (item.text if isinstance(step, str) and isinstance(item, ScalarNode) else index):
            return index, Entry(item.place, item)
    return None


def _sentence(details: list[ErrorDetails], spot: _Spot, model: type[BaseModel]) -> str:
    """What is wrong at one spot; several details there are the arms of one union."""
    kinds = {detail["type"] for detail in details}
    first = details[0]
    if "extra_forbidden" in kinds:
        return _unknown_key(spot, model)
    if "missing" in kinds:
        return _missing(spot, model)
    if isinstance(spot.node, ScalarNode) and spot.node.is_null:
        return "has no value; give it one, or leave the key out"
    literals = [name for detail in details if detail["type"] == "literal_error" for name in _expected(detail)]
    if literals:
        written = spot.node.text if isinstance(spot.node, ScalarNode) else str(spot.keys[-1])
        return f"not one of {listed(literals)}{', or a mapping' if kinds & set(_MAPPINGS) else ''}{did_you_mean(written, literals)}"
    return _plain_sentence(first)


def _plain_sentence(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "value_error":
            return str(context["error"])  # raised by our own field types, whose sentences hold nothing that was written
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case kind:
            return _SHAPES.get(kind, "not accepted here")


def _expected(detail: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))


def _unknown_key(spot: _Spot, model: type[BaseModel]) -> str:
    known = fields_at(model, spot.keys[:-1])
    return "unknown key" + (did_you_mean(str(spot.keys[-1]), known) or f"; known here: {listed(sorted(known))}")


def _missing(spot: _Spot, model: type[BaseModel]) -> str:
    what = fields_at(model, spot.keys[:-1]).get(str(spot.keys[-1]), "")
    if what[1:2].islower():
        what = what[0].lower() + what[1:]
    return f"is missing: {what.removesuffix('.')}" if what else "is missing"


def fields_at(model: type[BaseModel], keys: tuple[str | int, ...]) -> Mapping[str, str]:
    """The keys that can stand at a place below a model, each with its description; empty where any can."""
    arms: list[Any] = [model]
    for key in keys:
        arms = [inner for arm in arms for inner in _inner(arm, key)]
    return {
        name: field.description or ""
        for arm in arms
        if isinstance(arm, type) and issubclass(arm, BaseModel)
        for name, field in arm.model_fields.items()
    }


def literals_in(annotation: Any) -> Iterator[str]:
    """The texts of every Literal within an annotation."""
    if get_origin(annotation) is Literal:
        yield from (arm for arm in get_args(annotation) if isinstance(arm, str))
    else:
        for arm in get_args(annotation):
            yield from literals_in(arm)


def _inner(annotation: Any, key: str | int) -> Iterator[Any]:
    """What an annotation says of the value under `key`, one for each arm of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(key))
        yield from _arms(field.annotation) if field else ()
    elif get_origin(annotation) in (dict, list, tuple):
        yield from _arms(next((arm for arm in reversed(get_args(annotation)) if arm is not ...), None))


def _arms(annotation: Any) -> Iterator[Any]:
    """The arms of a union, or the annotation itself, without what Annotated adds."""
    if hasattr(annotation, "__metadata__"):
        yield from _arms(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for arm in get_args(annotation):
            yield from _arms(arm)
    else:
        yield annotation
