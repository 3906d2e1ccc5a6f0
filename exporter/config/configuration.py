"""What a checked configuration is: the values that the rest of the process is made from. Knows not where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from exporter.errors import Problem
from exporter.probes.base import ProbeSettings
from exporter.secret import Secret

DEFAULT_PORT = 10190


@dataclass(frozen=True, slots=True)
class Listen:
    """Address to serve on. `host` is empty for all interfaces; port 0 picks a free one."""

    host: str = ""
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Web:
    """What the HTTP surface asks for and how it ends: `drain_seconds` it keeps serving after SIGTERM."""

    token: Secret | None = None
    details: Literal["always", "authorized"] = "always"
    drain_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Log:
    format: Literal["auto", "text", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that was configured, checked and with defaults applied.

    `source` is the file's path, or `environment`. `probes` in the order written, disabled ones too. `secrets` is every
    secret value that was seen (passwords, tokens, header values, whole URLs), for the redactor. `warnings` are worth a
    line in the log but stop nothing; `notice`, where it is not empty, is one too and no problem at all. `files` are the paths
    behind each probe's values (`${file:}` and `X_FILE`), for those that have any: a changed secret takes effect by loading again.
    `content` is what stood in the file, None of the environment.
    """

    source: str
    probes: Mapping[str, ProbeSettings]
    listen: Listen = Listen()
    instance: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    web: Web = Web()
    log: Log = Log()
    secrets: tuple[Secret, ...] = ()
    warnings: tuple[Problem, ...] = ()
    notice: str = ""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    content: bytes | None = field(default=None, compare=False, repr=False)
