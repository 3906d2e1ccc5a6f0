"""What the types of other packages must keep to, beside the rules for every probe. Knows no package by name.

A problem of a package stands at the place of the type: who wrote the file can leave that out, and tell those who made it.
"""

from collections.abc import Iterator, Sequence

from exporter.config.findings import Findings
from exporter.config.rules import WrittenProbe
from exporter.config.series import built_in_metrics, label_problem, reserved_name, stem
from exporter.model import Metric
from exporter.probes.base import ProbeSettings
from exporter.probes.installed import BrokenType, blaming, broken

_MOST = 3
"""Problems told of one probe."""


def check_foreign(probes: Sequence[WrittenProbe], findings: Findings) -> None:
    """Metrics that nobody else has, in names that are free; nothing raised when another probe is looked at."""
    owners = {stem(name): (type_name, name) for name, type_name in built_in_metrics().items()}
    for probe in probes:
        if not probe.package or probe.settings is None:
            continue
        try:
            with blaming(probe.package):
                _ = [probe.settings.rests_on(other.settings) for other in probes if other.settings is not None]
            problems = list(_metric_problems(probe.settings, owners))
            if problems:
                raise broken(probe.package, "; ".join(problems[:_MOST]))
        except BrokenType as error:
            findings.add(probe.section.place_of("type"), probe.section.path_of("type"), str(error))


def _metric_problems(settings: ProbeSettings, owners: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Notes in `owners`, by stem, which type has which metric."""
    for metric in settings.declared():
        for problem in (*reserved_name(metric.name), *_label_problems(metric)):
            yield f"{metric.name}: {problem}"
        type_name, name = owners.setdefault(stem(metric.name), (settings.type, metric.name))
        if name != metric.name:
            yield f"{metric.name} is the same as {name} of type {type_name} once _total, _bucket, _sum and _count are taken off"
        elif type_name != settings.type:
            yield f"{metric.name} is a metric of type {type_name}"


def _label_problems(metric: Metric) -> Iterator[str]:
    told = ((label, label_problem(label)) for label in metric.labels)
    yield from (f"the label {label}: {problem}" for label, problem in told if problem is not None)
    if len(set(metric.labels)) != len(metric.labels):
        yield "a label stands twice"
