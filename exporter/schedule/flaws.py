"""What keeps a reading from being shown: one bad row would cost the scraper the whole page. Pure.

A probe of somebody else's may have met no type checker, so nothing is believed here, and nothing that is found raises.
"""

from collections.abc import Mapping, Sequence
from types import NoneType

from exporter.model import Capability, Distribution, Family, Kind, Metric, Reading, Reason

Declared = Mapping[str, Metric]

_FACTS: Mapping[str, tuple[type, ...]] = {
    "families": (tuple,),
    "detail": (Mapping,),
    "degraded": (Reason, NoneType),
    "message": (str, NoneType),
    "capabilities": (tuple,),
    "retry_after_seconds": (int, float, NoneType),
}
"""What each part of a reading is, as `exporter.model.Reading` declares it."""


def flaw(reading: object, declared: Declared) -> str | None:
    """The first thing wrong with it, in a few words, None when nothing is."""
    if not isinstance(reading, Reading):
        return "the run returned no reading"
    try:
        return _of_facts(reading) or of_families(reading.families, declared)
    except Exception as error:  # noqa: BLE001  # around one reading: it is made of what it is not made of
        return f"a reading that cannot be read: {type(error).__name__}"


def of_families(families: Sequence[Family], declared: Declared) -> str | None:
    """As `flaw`, of families alone."""
    names = [family.metric.name for family in families]
    if len(set(names)) != len(names):
        return f"{next(name for name in names if names.count(name) > 1)}: stands twice in one reading"
    return next(filter(None, (_of_family(family, declared) for family in families)), None)


def _of_facts(reading: Reading) -> str | None:
    wrong = next((name for name, kinds in _FACTS.items() if not isinstance(getattr(reading, name), kinds)), None)
    if wrong is None and all(isinstance(capability, Capability) for capability in reading.capabilities):
        return None
    return f"{wrong or 'capabilities'} of a reading: is not of its type"


def _of_family(family: Family, declared: Declared) -> str | None:
    metric = family.metric
    if declared.get(metric.name) != metric:
        return f"{metric.name}: is not a metric that the probe declares"
    kinds: tuple[type, ...] = (Distribution,) if metric.kind is Kind.HISTOGRAM else (int, float)
    seen = set()
    for values, value in family.rows:
        if len(values) != len(metric.labels) or not all(isinstance(text, str) for text in values):
            return f"{metric.name}: label values do not fit its labels"
        if type(value) not in kinds:
            return f"{metric.name}: a value is no {' and no '.join(kind.__name__ for kind in kinds)}"
        seen.add(values)
    return None if len(seen) == len(family.rows) else f"{metric.name}: two rows have the same labels"
