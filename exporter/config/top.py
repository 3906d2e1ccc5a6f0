"""The keys at the top of the file, but for the probes. Knows no probe type."""

import re
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from exporter.config.configuration import Listen
from exporter.probes.address import HIGHEST_PORT
from exporter.probes.base import ProbeSettings, Settings
from exporter.probes.fields import Labels, Name, SecretText, Text, Wait, written

NEVER_DEFAULT = ("type", "aliases", "depends_on", "enabled")
"""Common keys that cannot stand under `defaults`: they belong to one probe."""

SECTIONS = ("labels", "defaults", "web", "log")
"""Top-level mappings that may stand empty, with everything below them commented out."""

_LISTEN = re.compile(r"\s*(?P<host>[A-Za-z0-9._-]*|\[(?P<v6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,9})\s*")
_ListenText = Annotated[
    str, written("Address", re.sub(r"\?P<\w+>", "", _LISTEN.pattern), ":10190", "127.0.0.1:10190", "[::1]:10190")
]
_LISTEN_FORMS = "not an address to listen on; write HOST:PORT, such as :10190, 127.0.0.1:10190 or [::1]:10190"


def parse_listen(text: object) -> Listen:
    """`HOST:PORT`, where an empty host means all interfaces, and port 0 any free one.

    Raises:
        ValueError: with the sentence for the user.
    """
    match = _LISTEN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(_LISTEN_FORMS)
    port = int(match["port"])
    if port > HIGHEST_PORT:
        raise ValueError(f"port {port} is above {HIGHEST_PORT}")
    if match["v6"] is None:
        return Listen(match["host"], port)
    try:
        return Listen(str(IPv6Address(match["v6"])), port)
    except ValueError as error:
        raise ValueError(_LISTEN_FORMS) from error


class WebSettings(Settings):
    """What it serves, to whom and until when."""

    token: Annotated[
        SecretText | None,
        Field(description="Bearer token for what changes state, and for details; default none: every POST is refused."),
    ] = None
    details: Annotated[
        Literal["always", "authorized"], Field(description="Who sees messages and details: everybody, or those who have the token.")
    ] = "always"
    drain: Annotated[Wait, Field(description="How long to keep serving after SIGTERM, no longer ready.")] = 0.0


class LogSettings(Settings):
    """Its own log, on standard error."""

    format: Annotated[
        Literal["auto", "text", "json"], Field(description="Form of a line; auto is text on a terminal, else json.")
    ] = "auto"
    level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="Least severe level that is written.")] = (
        "info"
    )


class TopSettings(Settings):
    """The file as a whole; what stands under `probes` and `defaults` is checked by the types' own settings."""

    listen: Annotated[
        Listen,
        BeforeValidator(parse_listen, json_schema_input_type=_ListenText),
        Field(description="Address to serve on; port 0 picks a free one. EXPORTER_LISTEN and --listen win over it."),
    ] = Listen()
    instance: Annotated[
        Name, Field(description="Names its queues and keys on brokers, so it must outlive restarts: never a host name.")
    ] = "default"
    labels: Annotated[Labels, Field(default_factory=dict, description="Labels on every series, its own included.")]
    defaults: Annotated[
        dict[str, Any],
        Field(default_factory=dict, description="Common keys for all probes; a key written at a probe replaces the whole value."),
    ]
    probes: Annotated[dict[str, Any], Field(default_factory=dict, description="The probes by name: at least one.")]
    web: Annotated[WebSettings, Field(description="What it serves.")] = WebSettings()
    log: Annotated[LogSettings, Field(description="Its own log.")] = LogSettings()


class CommonSettings(ProbeSettings):
    """The keys of every probe, for what stands under `defaults`, and for a probe whose type is unknown."""

    type: Text = ""


COMMON_KEYS = frozenset(ProbeSettings.model_fields)
DEFAULT_KEYS = COMMON_KEYS - set(NEVER_DEFAULT)
