"""The keys at the top of the file, but for the probes. Knows no probe type."""

import re
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from exporter.config.configuration import Listen
from exporter.probes.address import HIGHEST_PORT
from exporter.probes.base import ProbeSettings, Settings
from exporter.probes.fields import Name, SecretText, Text, Wait

NEVER_DEFAULT = ("type", "aliases", "depends_on", "enabled")
"""Common keys that cannot stand under `defaults`: they belong to one probe."""

_LISTEN = re.compile(r"(?P<host>[A-Za-z0-9._-]*|\[(?P<v6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,9})")
_LISTEN_FORMS = "not an address to listen on; write HOST:PORT, such as :10190, 127.0.0.1:10190 or [::1]:10190"


def parse_listen(text: object) -> Listen:
    """`HOST:PORT`, where an empty host means all interfaces, and port 0 any free one.

    Raises:
        ValueError: with the sentence for the user.
    """
    match = _LISTEN.fullmatch(text.strip()) if isinstance(text, str) else None
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
    """The HTTP surface."""

    token: Annotated[SecretText | None, Field(description="Bearer token for what changes state, and for details.")] = None
    details: Annotated[Literal["always", "authorized"], Field(description="Who sees messages and details.")] = "always"
    drain: Annotated[Wait, Field(description="Time to keep serving after SIGTERM.")] = 0.0


class LogSettings(Settings):
    """Our own log."""

    format: Annotated[Literal["auto", "text", "json"], Field(description="auto: text on a terminal, else json.")] = "auto"
    level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="Least severe level to write.")] = "info"


class TopSettings(Settings):
    """The file as a whole; what stands under `probes` and `defaults` is checked by the types' own settings."""

    listen: Annotated[Listen, BeforeValidator(parse_listen), Field(description="Address to serve on.")] = Listen()
    instance: Annotated[Name, Field(description="Names our queues and reply keys on brokers.")] = "default"
    labels: Annotated[dict[str, Text], Field(default_factory=dict, description="Static labels on every series.")]
    defaults: Annotated[dict[str, Any], Field(default_factory=dict, description="Common keys for every probe.")]
    probes: Annotated[dict[str, Any], Field(default_factory=dict, description="Probes by name.")]
    web: Annotated[WebSettings, Field(description="The HTTP surface.")] = WebSettings()
    log: Annotated[LogSettings, Field(description="Our own log.")] = LogSettings()


class CommonSettings(ProbeSettings):
    """The keys of every probe, for what stands under `defaults`, and for a probe whose type is unknown."""

    type: Text = ""


COMMON_KEYS = frozenset(ProbeSettings.model_fields)
DEFAULT_KEYS = COMMON_KEYS - set(NEVER_DEFAULT)
