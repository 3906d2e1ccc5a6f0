"""The Compose file as Compose would read it without an `.env`, and its commands as children of ours. Knows no engine."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.demo.servers import Program
from exporter.demo.servers.python import python_path, who_can_read_us

DEPLOY = Path(__file__).parents[2] / "deploy"
VARIABLE = re.compile(r"\$\{(\w+):-([^{}$]*)\}")
"""The one form of a variable that the file uses: with a default, which has no variable in it."""
WRITTEN: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
"""The file before variables are replaced, anchors and merges followed."""


def scalars(node: object) -> list[str]:
    """Every text in it, keys left out: variables stand in values alone."""
    if isinstance(node, dict):
        return [text for value in node.values() for text in scalars(value)]
    if isinstance(node, list):
        return [text for item in node for text in scalars(item)]
    return [node] if isinstance(node, str) else []


def _by_default(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _by_default(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_by_default(item) for item in node]
    return VARIABLE.sub(r"\2", node) if isinstance(node, str) else node


SERVICES: dict[str, Any] = _by_default(WRITTEN["services"])


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """Where something is mounted in the container: what, and whether it is read-only there."""
    volumes = (volume.split(":") for volume in SERVICES[service].get("volumes", ()))
    return {target: (source, mode == ["ro"]) for source, target, *mode in volumes}


def in_repository(service: str, path: str) -> Path | None:
    """The file of ours that a path in the container leads to by way of a mount; None where it leads to none."""
    for target, (source, _) in mounts(service).items():
        if Path(path).is_relative_to(target) and source.startswith("."):
            return (DEPLOY / source / Path(path).relative_to(target)).resolve()
    return None


class Container(Program):
    """A service of our image as a child: its own command by this Python, in its own environment.

    `elsewhere` says what to put for each `host:port` of the containers' network; nothing else is changed.
    """

    def __init__(self, service: str, elsewhere: Mapping[str, str]) -> None:
        self.name = service
        super().__init__(who_can_read_us())
        self._definition = SERVICES[service]
        self._variables = {name: moved(value, elsewhere) for name, value in self._definition["environment"].items()}

    def command(self) -> list[str]:
        return programs_of_ours(self._definition["entrypoint"])

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path() | self._variables

    def is_ready(self) -> bool:
        """At once, as for Docker where there is no check."""
        return True


def moved(text: str, elsewhere: Mapping[str, str]) -> str:
    """The text with each address, or path, of a container replaced by what stands for it here."""
    for there, here in elsewhere.items():
        text = text.replace(there, here)
    return text


def programs_of_ours(command: list[str]) -> list[str]:
    """The command with its program taken from beside this Python, as the image takes it from its virtual environment."""
    program, *arguments = command
    return [sys.executable if program == "python" else str(Path(sys.executable).with_name(program)), *arguments]
