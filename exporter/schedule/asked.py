"""What a running probe is asked at each snapshot. One whose answer breaks keeps its last good one: the page is everybody's."""

import logging
from collections.abc import Callable
from typing import TypeVar

from exporter.log import about
from exporter.model import Family, PoolUse, Reason
from exporter.schedule.flaws import of_families
from exporter.schedule.jobs import AnyProbe, declared

log = logging.getLogger(__name__)

Counters = tuple[int, tuple[Family, ...]]
A = TypeVar("A")


class Asked:
    """Asks one probe for its connections and for what listening has counted; mutable: it keeps what was good."""

    def __init__(self, probe: AnyProbe) -> None:
        self._probe = probe
        self._declared = declared(probe.settings)
        self._counters: Counters = (-1, ())  # no version that a probe gives
        self._reported: set[str] = set()

    def pool(self) -> PoolUse | None:
        """Its connections, None where it has no pool, or cannot say."""
        return self._guarded("pool", self._probe.pool, None)

    def counters(self) -> Counters:
        """What listening has counted, with the number of its version."""
        answer = self._guarded("counters", self._checked, self._counters)
        self._counters = answer
        return answer

    def _checked(self) -> Counters:
        version, families = self._probe.counters()
        if version == self._counters[0]:
            return self._counters
        wrong = of_families(families, self._declared)
        if wrong is not None:
            raise ValueError(wrong)
        return version, families

    def _guarded(self, what: str, ask: Callable[[], A], otherwise: A) -> A:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001  # around one probe's answer
            if what not in self._reported:
                self._reported.add(what)
                fields = about(self._probe.name, reason=Reason.INTERNAL)
                log.error("unexpected %s in %s; please report it", type(error).__name__, what, extra=fields)
            return otherwise
