"""Rules between fields, names and probes, over what is written: they also hold for a probe with problems in its fields.

Each rule is one function from written probes to findings. Knows no metric (see `series`) and no driver.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporter.config.document import ScalarNode
from exporter.config.findings import Findings, did_you_mean, listed
from exporter.config.section import Section
from exporter.config.validate import literals_in
from exporter.errors import Problem
from exporter.model import CHECK
from exporter.probes.base import DEFAULT_TIMEOUT_SECONDS, ProbeSettings, RetrySettings
from exporter.probes.fields import NAME, format_duration

DEFAULT_INTERVAL_SECONDS: float = ProbeSettings.model_fields["interval"].default
DEFAULT_RETRY = RetrySettings()
DEFAULT_FAILURE_THRESHOLD: int = ProbeSettings.model_fields["failure_threshold"].default

_ADDRESS_KEYS = ("url", "broker_url", "host")


@dataclass(frozen=True, slots=True)
class WrittenProbe:
    """A probe's section, and as much of its settings as could be read: None where its type or a needed key is missing.

    `package` is what brings its type, empty for one of ours.
    """

    name: str
    section: Section
    model: type[ProbeSettings] | None
    settings: ProbeSettings | None
    package: str = ""

    @property
    def interval_seconds(self) -> float | None:
        """None where what is written cannot be read."""
        return self.section.seconds("interval", DEFAULT_INTERVAL_SECONDS)

    @property
    def timeout_seconds(self) -> float | None:
        """The check's deadline, one from the defaults lowered to the interval; None where what is written cannot be read."""
        return _least(self.section.seconds("timeout", DEFAULT_TIMEOUT_SECONDS), self.interval_seconds)

    @property
    def built_in(self) -> frozenset[str]:
        """The names of its type's built-in collectors."""
        field = self.model.model_fields.get("collect") if self.model else None
        return frozenset(literals_in(field.annotation)) if field else frozenset()

    def collectors(self) -> Iterator[tuple[str, Section]]:
        """The sections of collectors that have one: queries, and built-in ones with settings of their own."""
        yield from self.section.sections("collect")
        yield from self.section.sections("queries")


def check_all(probes: Sequence[WrittenProbe], defaults: Section | None, findings: Findings) -> None:
    """Every rule of this module."""
    check_names(probes, findings)
    check_dependencies(probes, findings)
    if defaults is not None:
        check_timeout(defaults, defaults.seconds("interval", None), findings)
        check_retry(defaults, findings)
    for probe in probes:
        check_collect(probe, findings)
        check_schedule(probe, findings)
        check_retry(probe.section, findings)
        check_circuit(probe, findings)
        check_query_names(probe, findings)
        check_tls(probe, findings)
        check_server(probe, findings)


def check_names(probes: Sequence[WrittenProbe], findings: Findings) -> None:
    """Names fit the pattern; a name or alias belongs to one probe."""
    owners = {probe.name: f"the probe at {probe.section.place}" for probe in probes}
    for probe in probes:
        if not NAME.fullmatch(probe.name):
            findings.add(
                probe.section.place,
                probe.section.path,
                "not a name; it starts with a letter or digit and holds at most 63 letters, digits, `_`, `.`, `-`",
            )
        for alias, node, path in probe.section.texts("aliases"):
            if alias in owners:
                findings.add(node.place, path, f"the name is taken by {owners[alias]}")
            else:
                owners[alias] = f"the alias at {node.place}"


def check_dependencies(probes: Sequence[WrittenProbe], findings: Findings) -> None:
    """`depends_on` names other probes, and never leads back to where it began."""
    names = {probe.name for probe in probes}
    aliases = {alias: probe.name for probe in probes for alias, _, _ in probe.section.texts("aliases")}
    for probe in probes:
        for parent, node, path in probe.section.texts("depends_on"):
            if parent == probe.name:
                findings.add(node.place, path, "a probe cannot depend on itself")
            elif parent in aliases and parent not in names:
                findings.add(node.place, path, f"is an alias; write the probe's name, `{aliases[parent]}`")
            elif parent not in names:
                findings.add(
                    node.place, path, f"no such probe{did_you_mean(parent, names) or f'; there are {listed(sorted(names))}'}"
                )
    check_circles(probes, findings)


def check_circles(probes: Sequence[WrittenProbe], findings: Findings) -> None:
    """Adds one line of `depends_on` after the other; the one that closes a circle is told, with the way around."""
    parents: dict[str, list[str]] = {probe.name: [] for probe in probes}
    for probe in probes:
        for parent, node, path in probe.section.texts("depends_on"):
            way = _way(parents, parent, probe.name) if parent != probe.name else []
            if way:
                findings.add(node.place, path, f"depends on itself in a circle: {' → '.join([probe.name, *way])}")
            else:
                parents[probe.name].append(parent)


def _way(parents: Mapping[str, Sequence[str]], start: str, goal: str) -> list[str]:
    """The names from `start` up to `goal`, both included; empty when no way leads there."""
    came_from: dict[str, str] = {start: ""}
    open_ends = [start]
    while open_ends:
        name = open_ends.pop()
        if name == goal:
            return _steps(came_from, goal)
        for parent in parents.get(name, ()):
            if parent not in came_from:
                came_from[parent] = name
                open_ends.append(parent)
    return []


def _steps(came_from: Mapping[str, str], goal: str) -> list[str]:
    steps = [goal]
    while came_from[steps[-1]]:
        steps.append(came_from[steps[-1]])
    return steps[::-1]


def check_collect(probe: WrittenProbe, findings: Findings) -> None:
    """A list of collectors names each once."""
    first: dict[str, ScalarNode] = {}
    for name, node, path in probe.section.texts("collect"):
        if first.setdefault(name, node) is not node:
            findings.add(node.place, path, f"stands twice, first at {first[name].place}; keep one")


def check_schedule(probe: WrittenProbe, findings: Findings) -> None:
    """A written timeout fits into its interval; `stale_after` outlasts every interval and timeout together."""
    if "timeout" in probe.section.own:
        check_timeout(probe.section, probe.interval_seconds, findings)
    for _, section in probe.collectors():
        check_timeout(section, section.seconds("interval", probe.interval_seconds), findings)
    longest: dict[str, _Span] = {}
    for span in sorted(_spans(probe), key=lambda span: -span.seconds):
        longest.setdefault(span.section.path, span)
    for span in longest.values():
        _check_stale(span, findings)


@dataclass(frozen=True, slots=True)
class _Span:
    """What the series of the check, or of a collector, must outlast; `section` is where their `stale_after` is written."""

    section: Section
    owner: str
    interval_seconds: float
    timeout_seconds: float

    @property
    def seconds(self) -> float:
        return self.interval_seconds + self.timeout_seconds


def _spans(probe: WrittenProbe) -> Iterator[_Span]:
    """The check's, and that of every collector with settings of its own, where they can be read."""
    if probe.interval_seconds is not None and probe.timeout_seconds is not None:
        yield _Span(probe.section, "", probe.interval_seconds, probe.timeout_seconds)
    for name, section in probe.collectors():
        interval = section.seconds("interval", probe.interval_seconds)
        timeout = _least(section.seconds("timeout", probe.timeout_seconds), interval)
        if interval is not None and timeout is not None:
            is_own = section.entry("stale_after") is not None
            yield _Span(section if is_own else probe.section, "" if is_own else f" of collector `{name}`", interval, timeout)


def _check_stale(span: _Span, findings: Findings) -> None:
    stale = span.section.seconds("stale_after", None)
    if stale is not None and stale < span.seconds:
        sum_of_both = f"{format_duration(span.interval_seconds)} + {format_duration(span.timeout_seconds)}"
        message = (
            f"{format_duration(stale)} is below interval + timeout{span.owner}, {sum_of_both}:"
            " its series would come and go between runs"
        )
        findings.add(span.section.place_of("stale_after"), span.section.path_of("stale_after"), message)


def _least(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else min(one, other)


def check_timeout(section: Section, interval: float | None, findings: Findings) -> None:
    """A timeout written in `section` is not above that interval in seconds, None where it is not known."""
    timeout = section.seconds("timeout", None)
    if timeout is not None and interval is not None and timeout > interval:
        message = f"{format_duration(timeout)} is above the interval, {format_duration(interval)}"
        findings.add(section.place_of("timeout"), section.path_of("timeout"), message)


def check_retry(section: Section, findings: Findings) -> None:
    """The first wait is not above the longest."""
    retry = section.section("retry")
    initial = retry.seconds("initial", DEFAULT_RETRY.initial) if retry else None
    longest = retry.seconds("max", DEFAULT_RETRY.max) if retry else None
    if retry and initial is not None and longest is not None and initial > longest:
        first, most = format_duration(initial), format_duration(longest)
        if retry.entry("initial") is not None:
            findings.add(retry.place_of("initial"), retry.path_of("initial"), f"{first} is above max, {most}")
        else:
            findings.add(retry.place_of("max"), retry.path_of("max"), f"{most} is below initial, {first}")


def check_circuit(probe: WrittenProbe, findings: Findings) -> None:
    """A written `open_after` leaves the status time to be confirmed."""
    circuit = probe.section.section("circuit")
    open_after = circuit.whole("open_after", None) if circuit else None
    threshold = probe.section.whole("failure_threshold", DEFAULT_FAILURE_THRESHOLD)
    if circuit and open_after is not None and threshold is not None and open_after < threshold:
        message = f"{open_after} is below failure_threshold, {threshold}: the circuit would open before the status is confirmed"
        findings.add(circuit.place_of("open_after"), circuit.path_of("open_after"), message)


def check_query_names(probe: WrittenProbe, findings: Findings) -> None:
    """A query is a collector under its key, so the key is not one of the type's own."""
    queries = probe.section.section("queries")
    for name, entry in queries.own.items() if queries else ():
        if queries and name in probe.built_in | {CHECK}:
            findings.add(entry.place, queries.path_of(name), "is the name of a built-in collector; give the query another one")


def check_tls(probe: WrittenProbe, findings: Findings) -> None:
    """A client key needs its certificate; a certificate's file may hold the key as well."""
    tls = probe.section.section("tls")
    if tls and tls.text("key_file") and not tls.text("cert_file"):
        findings.add(tls.place_of("key_file"), tls.path_of("key_file"), "needs its certificate beside it, as cert_file")


def check_server(probe: WrittenProbe, findings: Findings) -> None:
    """The address can be read, and there is one."""
    try:
        _ = probe.settings.server if probe.settings else None
    except ValueError as error:
        key = _address_key(probe.section)
        place, path = (
            (probe.section.place_of(key), probe.section.path_of(key)) if key else (probe.section.place, probe.section.path)
        )
        findings.add(place, path, str(error))


def plain_connections(probes: Sequence[WrittenProbe]) -> Iterator[Problem]:
    """A warning for every enabled probe that reaches another machine without TLS. For checked probes only."""
    for probe in probes:
        settings = probe.settings
        server = settings.server if settings and settings.enabled else None
        if settings is None or server is None or server.is_loopback or server.demands_tls:
            continue
        if settings.tls is None or server.permits_plain:
            place = probe.section.place_of(_address_key(probe.section) or "")
            path = probe.section.path_of(_address_key(probe.section) or "") if place.in_file else ""
            yield Problem(str(place), path, f"{server.place} is another machine, and nothing demands TLS; {_cure(server.scheme)}")


def address_advice(probes: Sequence[WrittenProbe]) -> Iterator[Problem]:
    """A warning for each thing about an enabled probe's address that does not do what it seems to. For checked probes only."""
    for probe in probes:
        place = probe.section.place_of(_address_key(probe.section) or "")
        path = probe.section.path_of(_address_key(probe.section) or "") if place.in_file else ""
        for advice in probe.settings.advice() if probe.settings and probe.settings.enabled else ():
            yield Problem(str(place), path, advice)


def _address_key(section: Section) -> str | None:
    return next((key for key in _ADDRESS_KEYS if section.entry(key) is not None), None)


def _cure(scheme: str) -> str:
    cures = {"http": "use https://", "redis": "use rediss:// or `tls:`", "amqp": "use amqps:// or `tls:`"}
    return cures.get(scheme, "use sslmode=require or `tls:`")
