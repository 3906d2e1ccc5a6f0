"""Where the configuration comes from: which file, and what the environment and the command line say over it.

Blocking and short: reads the file and the files that values name. May be called again at any time; nothing is kept.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from exporter.config import environment
from exporter.config.check import check, known_secrets
from exporter.config.configuration import Configuration, Listen
from exporter.config.document import MappingNode, parse
from exporter.config.expand import Sources
from exporter.config.findings import Findings, Place
from exporter.config.top import parse_listen
from exporter.errors import ConfigError
from exporter.secret import Secret

LARGEST_BYTES = 4 * 1024 * 1024
"""The most of one configuration file that is read."""

SYSTEM_PATH = Path("/etc/sidecar-exporter/config.yaml")
"""Where the container image mounts its configuration."""

_PROBES = re.compile(r"""^["']?probes["']?\s*:""", re.MULTILINE)


def load(
    path: Path | None, environ: Mapping[str, str], *, listen: str | None = None, content: bytes | None = None
) -> Configuration:
    """The checked configuration of a file, or of the environment alone where `path` is None.

    `listen` (from the command line) wins over EXPORTER_LISTEN, and that over the file; EXPORTER_TOKEN wins over `web.token`.

    With `content` the file itself is not read: that is what stood in it, and only what it takes from elsewhere is read again.

    Raises:
        ConfigError: with every problem that was found.
    """
    sources, findings = Sources(environ), Findings()
    address = _listen(listen, sources, findings)
    token = environment.read("EXPORTER_TOKEN", sources, findings)
    sources.files.clear()
    configuration = _from_environment(sources, findings) if path is None else _from_file(path, content, sources, findings)
    if address is not None:
        configuration = replace(configuration, listen=address)
    if token:
        secret = Secret(token)
        secrets = known_secrets([*configuration.secrets, secret])
        configuration = replace(configuration, web=replace(configuration.web, token=secret), secrets=secrets)
    return configuration


def _from_file(path: Path, content: bytes | None, sources: Sources, findings: Findings) -> Configuration:
    if content is None:
        content = _content(path, findings)
    source = str(path)
    root = None if content is None else parse(content, source, findings)
    if root is None and findings:
        raise ConfigError(findings.problems())
    return replace(check(root, Place(source, 1, 1), sources, findings), content=content)


def _from_environment(sources: Sources, findings: Findings) -> Configuration:
    found = environment.tree(sources, findings)
    if findings and not any(isinstance(node, MappingNode) and node.entries for node in (found.root.get("probes"),)):
        raise ConfigError(findings.problems())
    configuration = check(found.root, Place(environment.SOURCE), sources, findings)
    probes = {name: probe.as_inferred() if name in found.inferred else probe for name, probe in configuration.probes.items()}
    return replace(configuration, probes=probes, notice=environment.notice(found.root))


def _content(path: Path, findings: Findings) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        problem = f"is larger than {LARGEST_BYTES} bytes" if len(content) > LARGEST_BYTES else None
    except OSError as error:
        problem = f"cannot be read: {(error.strerror or 'not a file').lower()}"
    if problem is None:
        return content
    findings.add(Place(str(path)), "", problem)
    return None


def _listen(argument: str | None, sources: Sources, findings: Findings) -> Listen | None:
    """What the command line says, else the environment, else None. Both are checked, so that no slip hides behind the other."""
    chosen: Listen | None = None
    for name, text in (("EXPORTER_LISTEN", environment.read("EXPORTER_LISTEN", sources, findings)), ("--listen", argument)):
        try:
            chosen = parse_listen(text) if text else chosen
        except ValueError as error:
            findings.add(Place(name), "", str(error))
    return chosen


def find(argument: str | None, environ: Mapping[str, str], cwd: Path) -> tuple[Path | None, str | None]:
    """Which file to load, None for the environment alone; and a line on a file that was passed over, if one was.

    The order: `argument`, EXPORTER_CONFIG, `config.yaml` in `cwd` if it has `probes:`, the system's file. A file that is
    asked for by name is returned whether it is there or not: `load` tells what is wrong with it.
    """
    named = argument or environ.get("EXPORTER_CONFIG")
    if named:
        return Path(named), None
    passed_over = None
    here = cwd / "config.yaml"
    if here.is_file():
        if _has_probes(here):
            return here, None
        passed_over = f"{here}: has no `probes:`, so it is another program's file; passed over"
    return (SYSTEM_PATH if SYSTEM_PATH.is_file() else None), passed_over


def _has_probes(path: Path) -> bool:
    """Whether the file is ours to read, or cannot be read: then `load` says so, rather than something else starting silently."""
    content = _content(path, Findings())
    if content is None:
        return True
    root = parse(content, str(path), Findings())
    if root is None:
        return _PROBES.search(content.decode(errors="replace")) is not None
    return isinstance(root, MappingNode) and "probes" in root.entries
