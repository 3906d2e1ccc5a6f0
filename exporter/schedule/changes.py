"""Says in one line of the log what has changed for a probe or one of its collectors. Decides nothing."""

import logging

from exporter.log import about
from exporter.model import Reason, Run, Status
from exporter.state import Record

log = logging.getLogger(__name__)

GOOD_RUNS = 2


def tell_change(record: Record, run: Run) -> None:
    """The status that holds from now on and why, with how long the check took that confirmed it."""
    status, (reason, message) = record.status, record.why
    fields = about(record.watched.name, status=status, reason=reason, duration_seconds=run.duration_seconds)
    level = logging.INFO if status is Status.HEALTHY else logging.WARNING
    if reason is None:
        log.log(level, "%s", status, extra=fields)
    else:
        log.log(level, "%s, %s: %s", status, reason, message, extra=fields)


class CollectorChanges:
    """What was last said of one collector, so that one which now fails and now does not is a line a change that holds; mutable.

    A failure is said at once, another reason too, its end after a second good run in a row.
    """

    def __init__(self, probe: str) -> None:
        self._probe = probe
        self._said: Reason | None = None
        self._good = 0

    def heard(self, run: Run, *, check_fails: bool) -> None:
        """Takes in a run that was not cancelled. While the check fails too nothing is said: that has a line of its own."""
        fields = about(self._probe, run.collector, reason=run.reason, duration_seconds=run.duration_seconds)
        self._good = self._good + 1 if run.reason is None else 0
        if run.reason is not None and run.reason is not self._said and not check_fails:
            log.warning("%s: %s", run.reason, run.message, extra=fields)
            self._said = run.reason
        elif self._said is not None and self._good == GOOD_RUNS:
            log.info("reads again", extra=fields)
            self._said = None
