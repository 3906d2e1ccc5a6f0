"""From a parsed tree to a checked `Configuration`, or to every problem in it. Reads no file but those that values name."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel

from exporter.config.attribution import with_dependencies
from exporter.config.configuration import Configuration, Log, Web
from exporter.config.document import Entry, MappingNode, Node, ScalarNode, as_python, below
from exporter.config.expand import Sources, expand
from exporter.config.findings import Findings, Place, did_you_mean, listed
from exporter.config.foreign import check_foreign
from exporter.config.rules import WrittenProbe, address_advice, check_all, plain_connections
from exporter.config.section import Section
from exporter.config.series import check_metrics, check_static_labels
from exporter.config.top import COMMON_KEYS, DEFAULT_KEYS, SECTIONS, CommonSettings, TopSettings
from exporter.config.validate import validate
from exporter.errors import ConfigError, Problem
from exporter.probes import TYPES, ProbeType
from exporter.probes.address import passwords_in
from exporter.probes.base import ProbeSettings
from exporter.probes.installed import BrokenType, Catalogue, blaming, prove, settings_of
from exporter.secret import Secret


@dataclass(frozen=True, slots=True)
class _Expanded:
    """The top of the file with every `${…}` replaced, and the files that values came from, by probe."""

    top: Section
    files: Mapping[str, tuple[str, ...]]


def check(root: Node | None, start: Place, sources: Sources, findings: Findings) -> Configuration:
    """The configuration that a tree describes; `start` is where the tree begins, its source the configuration's name.

    Raises:
        ConfigError: with every problem, those in `findings` included.
    """
    if not isinstance(root, MappingNode):
        findings.add(start, "", _not_a_mapping(root))
        raise ConfigError(findings.problems())
    expanded = _expand(root, start, sources, findings)
    top = expanded.top
    defaults = _defaults(top, findings)
    catalogue = Catalogue()
    probes = _probes(top, defaults, catalogue, findings)
    settings = validate(TopSettings, top, findings)
    check_all(probes, defaults, findings)
    check_foreign(probes, findings)
    check_metrics(probes, findings)
    check_static_labels(top.section("labels"), probes, findings)
    if findings or settings is None:
        raise ConfigError(findings.problems())
    configuration = _configuration(settings, probes, start.source, sources, expanded.files)
    warnings = (*_unseen(settings, top, sources), *plain_connections(probes), *address_advice(probes), *passed_over(catalogue))
    return replace(configuration, warnings=warnings)


def _not_a_mapping(root: Node | None) -> str:
    if root is None or (isinstance(root, ScalarNode) and root.is_null):
        return "is empty; write at least one probe under `probes:`"
    return "not a mapping at the top; begin with keys such as `probes:`"


def _expand(root: MappingNode, start: Place, sources: Sources, findings: Findings) -> _Expanded:
    """Expands the probes one by one, so that the files behind each are known; those behind defaults stand behind all."""
    entries = {
        key: entry
        for key, entry in root.entries.items()
        if not (key in SECTIONS and isinstance(entry.node, ScalarNode) and entry.node.is_null)
    }
    probes = entries.pop("probes", None)
    rest = expand(MappingNode(root.place, entries), sources, findings)
    shared = _files_of(sources)
    expanded = dict(rest.entries) if isinstance(rest, MappingNode) else {}
    files: dict[str, tuple[str, ...]] = {}
    if probes is not None and isinstance(probes.node, MappingNode):
        inner: dict[str, Entry] = {}
        for name, entry in probes.node.entries.items():
            inner[name] = Entry(entry.place, expand(entry.node, sources, findings, below("probes", name)))
            behind = (*shared, *_files_of(sources))
            files |= {name: behind} if behind else {}
        probes = Entry(probes.place, MappingNode(probes.node.place, inner))
    if probes is not None:
        expanded["probes"] = probes
    return _Expanded(Section("", start, expanded), files)


def _files_of(sources: Sources) -> tuple[str, ...]:
    files = tuple(sorted(sources.files))
    sources.files.clear()
    return files


def _defaults(top: Section, findings: Findings) -> Section | None:
    """The sound part of the defaults; keys that cannot stand there are told and left out."""
    written = top.section("defaults")
    if written is None:
        return None
    for key, entry in written.own.items():
        if key not in DEFAULT_KEYS:
            findings.add(entry.place, written.path_of(key), _no_default(key))
    sound = replace(written, own={key: entry for key, entry in written.own.items() if key in DEFAULT_KEYS})
    validate(CommonSettings, sound, findings)
    return sound


def _no_default(key: str) -> str:
    if key in COMMON_KEYS:
        return "belongs to one probe; write it there"
    owners = _types_with(key)
    if owners:
        return f"belongs to probes of type {listed(owners)}; write it there"
    return "unknown key" + (did_you_mean(key, DEFAULT_KEYS) or f"; known here: {listed(sorted(DEFAULT_KEYS))}")


def _types_with(key: str) -> list[str]:
    return [name for name, row in TYPES.items() if key in row.load_settings().model_fields]


def _probes(top: Section, defaults: Section | None, catalogue: Catalogue, findings: Findings) -> list[WrittenProbe]:
    written = top.node("probes")
    if written is None or not as_python(written):
        findings.add(top.place_of("probes"), "probes", "no probe; write at least one, such as `db: {type: postgres, url: …}`")
    section = top.section("probes")
    return [_probe(name, entry, defaults, catalogue, findings) for name, entry in section.own.items()] if section else []


def _probe(name: str, entry: Entry, defaults: Section | None, catalogue: Catalogue, findings: Findings) -> WrittenProbe:
    path = below("probes", name)
    if not isinstance(entry.node, MappingNode):
        types = listed(catalogue.names())
        findings.add(entry.place, path, f"not a mapping; write `type:` (one of {types}) and the probe's keys below it")
        return WrittenProbe(name, Section(path, entry.place, {}), None, None)
    section = Section(path, entry.place, entry.node.entries, defaults)
    try:
        row = _row(section, catalogue, findings)
        if row is not None:
            return _typed(name, section, row, findings)
    except BrokenType as error:
        findings.add(section.place_of("type"), section.path_of("type"), str(error))
    common = replace(section, own={key: entry for key, entry in section.own.items() if key in COMMON_KEYS - {"type"}})
    validate(CommonSettings, common, findings)
    return WrittenProbe(name, section, None, None)


def _row(section: Section, catalogue: Catalogue, findings: Findings) -> ProbeType | None:
    """The probe's type; where there is none, that is told. Raises BrokenType."""
    node, name = section.node("type"), section.text("type")
    row = catalogue.find(name) if name else None
    if row is None and node is None:
        findings.add(section.place, section.path_of("type"), f"is missing; one of {listed(catalogue.names())}")
    elif row is None:
        hint = did_you_mean(name, catalogue.names()) if name else ""
        findings.add(section.place_of("type"), section.path_of("type"), f"unknown type; one of {listed(catalogue.names())}{hint}")
    return row


def _typed(name: str, section: Section, row: ProbeType, findings: Findings) -> WrittenProbe:
    """A probe of a known type. Raises BrokenType."""
    kind = section.text("type") or ""
    model = settings_of(kind, row)
    for key, entry in section.own.items():
        owners = () if key in model.model_fields else _types_with(key)
        if owners:
            findings.add(entry.place, section.path_of(key), f"belongs to probes of type {listed(owners)}, not {kind}")
    with blaming(row.package):
        settings = validate(model, section, findings)
    if settings is not None:
        prove(row, settings)
    return WrittenProbe(name, section, model, settings, row.package)


def _unseen(settings: TopSettings, top: Section, sources: Sources) -> Iterator[Problem]:
    """A warning when messages and details are kept for those with a token, and there is none."""
    web = top.section("web")
    has_token = settings.web.token or any(map(sources.environ.get, ("EXPORTER_TOKEN", "EXPORTER_TOKEN_FILE")))
    if web and settings.web.details == "authorized" and not has_token:
        message = "nobody can see messages and details without a token; set web.token or EXPORTER_TOKEN"
        yield Problem(str(web.place_of("details")), web.path_of("details"), message)


def passed_over(catalogue: Catalogue) -> Iterator[Problem]:
    """A warning for every type of a package that is not ours to replace; nothing is looked up for it alone."""
    if catalogue.was_read:
        yield from (Problem("", "", clash) for clash in catalogue.clashes())


def _configuration(
    top: TopSettings, probes: list[WrittenProbe], source: str, sources: Sources, files: Mapping[str, tuple[str, ...]]
) -> Configuration:
    settings = {probe.name: lowered for probe in probes if (lowered := _lowered(probe)) is not None}
    token = top.web.token or None
    return Configuration(
        source=source,
        probes=with_dependencies(settings),
        listen=top.listen,
        instance=top.instance,
        labels=top.labels,
        web=Web(token, top.web.details, top.web.drain),
        log=Log(top.log.format, top.log.level),
        secrets=known_secrets([*sources.secrets, *secrets_in(top), *(s for model in settings.values() for s in secrets_in(model))]),
        files=files,
    )


def _lowered(probe: WrittenProbe) -> ProbeSettings | None:
    """The settings, with a timeout from the defaults lowered to the probe's own interval."""
    settings = probe.settings
    if settings is None or settings.timeout is None or settings.timeout <= settings.interval:
        return settings
    return settings.model_copy(update={"timeout": settings.interval})


def secrets_in(value: object) -> Iterator[Secret]:
    """Every secret within settings, however deep."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from (secret for inner in value.values() for secret in secrets_in(inner))
    elif isinstance(value, tuple | list):
        yield from (secret for inner in value for secret in secrets_in(inner))


def known_secrets(secrets: Iterable[Secret]) -> tuple[Secret, ...]:
    """The secrets as they stand, the passwords in those that are URLs, and what follows the scheme in those like `Bearer x`."""
    found: dict[str, None] = {}
    for text in filter(None, (secret.reveal() for secret in secrets)):
        found.update(dict.fromkeys((text, *passwords_in(text))))
        scheme, _, rest = text.partition(" ")
        if scheme.lower() in ("bearer", "basic", "token"):
            found[rest.strip()] = None
    return tuple(Secret(text) for text in found if text)
