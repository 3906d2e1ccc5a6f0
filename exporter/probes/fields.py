"""Field types of the settings: what a scalar of the configuration may look like, and the sentence when it does not.

The sentences stand in `file:line:column: path: …` and never repeat a rejected value that could be a secret.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, GetPydanticSchema
from pydantic_core import CoreSchema, core_schema

from exporter.secret import Secret

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_DURATION_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|KB|MB|GB)?")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "KB": 1000, "MB": 1000**2, "GB": 1000**3}


def parse_duration(text: object) -> float:
    """Seconds of `500ms`, `15s`, `1m30s`, `2h`, `1d`; a bare number is refused: it has no unit.

    Raises:
        ValueError: with the sentence for the user.
    """
    if isinstance(text, str):
        match = _DURATION.fullmatch(text.strip())
        if match and any(match.groups()):
            seconds = sum(float(part) * unit for part, unit in zip(match.groups(), _DURATION_UNITS, strict=True) if part)
            if seconds > 0:
                return seconds
            raise ValueError("a duration must be above zero")
    raise ValueError("not a duration; write it with a unit, such as 500ms, 15s or 1m30s")


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


Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=str)]
"""Seconds, written with a unit. A default stands as seconds."""
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=str)]
Name = Annotated[str, BeforeValidator(_name), Field(max_length=63)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, BeforeValidator(_count)]
Text = Annotated[str, BeforeValidator(_text)]
SecretText = Annotated[Secret, GetPydanticSchema(_secret_schema)]
"""Text that never prints: passwords, tokens, header values, whole URLs."""
