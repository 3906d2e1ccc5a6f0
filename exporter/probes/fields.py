"""Field types of the settings: what a scalar of the configuration may look like, and the sentence when it does not.

The sentences stand in `file:line:column: path: …` and never repeat a rejected value that could be a secret. `written` says the
same to editors, as JSON Schema, for those types that Python's do not say it for.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, GetPydanticSchema, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from exporter.secret import Secret

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
LONGEST_SECONDS = 366 * 86400.0
"""The longest duration that is accepted: beyond it lies a slip of the hand, and far beyond it what timers can hold."""
SHORTEST_INTERVAL_SECONDS = 0.1
"""More often than ten times a second is a load on the target, and mostly a slip of the hand: `1ms` for `1m`."""

RESERVED_LABELS = {
    "probe": "every series has it already: the probe's name",
    "job": "Prometheus sets it, and would rename yours to exported_job",
    "instance": "Prometheus sets it, and would rename yours to exported_instance",
    "le": "it belongs to histograms",
    "quantile": "it belongs to summaries",
}
"""Labels that others need: a reason for each."""
OWN_PREFIXES = ("sidecar_", "process_", "python_")
"""What metrics of the exporter itself begin with."""

_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?!s))?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,9})ms)?"
)
_DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|KB|MB|GB)?")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "KB": 1000, "MB": 1000**2, "GB": 1000**3}


def parse_duration(text: object) -> float:
    """Seconds of `500ms`, `15s`, `1m30s`, `2h`, `1d`; a bare number is refused: it has no unit.

    Raises:
        ValueError: with the sentence for the user.
    """
    seconds = parse_wait(text)
    if seconds == 0:
        raise ValueError("a duration must be above zero")
    return seconds


def parse_wait(text: object) -> float:
    """Seconds of a duration that may be zero: `0s`.

    Raises:
        ValueError: with the sentence for the user.
    """
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or not any(match.groups()):
        raise ValueError("not a duration; write it with a unit, such as 500ms, 15s or 1m30s")
    parts = zip(match.groups(), _DURATION_UNITS.values(), strict=True)
    seconds = sum(float(part) * unit for part, unit in parts if part) / 1000  # in ms first: 0.1 + 0.2 stays 0.3
    if seconds > LONGEST_SECONDS:
        raise ValueError("a duration must be at most 366d")
    return seconds


def parse_interval(text: object) -> float:
    """Seconds between two runs.

    Raises:
        ValueError: with the sentence for the user.
    """
    seconds = parse_duration(text)
    if seconds < SHORTEST_INTERVAL_SECONDS:
        raise ValueError(f"an interval must be at least {format_duration(SHORTEST_INTERVAL_SECONDS)}")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration as it would be written, to the millisecond: `1m30s`, `500ms`."""
    left = round(seconds * 1000)
    parts: list[str] = []
    for unit, size in _DURATION_UNITS.items():
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def parse_size(text: object) -> int:
    """Bytes of `64MiB`, `10KB`, or of a bare number.

    Raises:
        ValueError: with the sentence for the user.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError("not a size; write it such as 64MiB")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def _name(value: object) -> object:
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    raise ValueError("not a name; a name starts with a letter or digit and holds at most 63 letters, digits, `_`, `.`, `-`")


def _flag(value: object) -> object:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("not a switch; write true or false")


def _count(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    raise ValueError("not a whole number")


def _text(value: object) -> object:
    if isinstance(value, str):
        return value
    raise ValueError("not text; put it in quotes")


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    raise ValueError("not text; put it in quotes")


def _secret_schema(_source: object, _handler: object) -> CoreSchema:
    return core_schema.no_info_plain_validator_function(
        _secret, json_schema_input_schema=core_schema.str_schema(), serialization=core_schema.to_string_ser_schema()
    )


def written(kind: str, pattern: str, *examples: str) -> WithJsonSchema:
    """Says of a text that as a whole it looks like `pattern` (ECMA 262), to JSON Schema alone; `kind` is its name there."""
    return WithJsonSchema({"title": kind, "type": "string", "pattern": f"^({pattern})$", "examples": [*examples]})


_DurationText = Annotated[str, written("Duration", rf"\s*(?=.*[1-9]){_DURATION.pattern}\s*", "500ms", "15s", "1m30s")]
_WaitText = Annotated[str, written("Wait", rf"\s*(?=[0-9]){_DURATION.pattern}\s*", "0s", "15s", "1m30s")]
_SizeText = Annotated[str, written("Size", rf"\s*{_SIZE.pattern}\s*", "64MiB", "10KB")]
_NameText = Annotated[str, written("Name", NAME.pattern)]

Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=_DurationText)]
"""Seconds, written with a unit. A default stands as seconds."""
Interval = Annotated[float, BeforeValidator(parse_interval, json_schema_input_type=_DurationText)]
"""A duration between two runs."""
Wait = Annotated[float, BeforeValidator(parse_wait, json_schema_input_type=_WaitText)]
"""A duration that may be zero."""
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=_SizeText | int)]
Name = Annotated[str, BeforeValidator(_name, json_schema_input_type=_NameText)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, BeforeValidator(_count)]
Text = Annotated[str, BeforeValidator(_text)]
LabelName = Annotated[str, written("Label", rf"(?!__|({'|'.join(RESERVED_LABELS)})$)[a-zA-Z_][a-zA-Z0-9_]*")]
MetricName = Annotated[str, written("Metric", rf"(?!{'|'.join(OWN_PREFIXES)})[a-zA-Z_][a-zA-Z0-9_]*")]
Labels = dict[LabelName, Text]
SecretText = Annotated[Secret, GetPydanticSchema(_secret_schema)]
"""Text that never prints: passwords, tokens, header values, whole URLs."""
