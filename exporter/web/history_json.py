"""The past of a probe as JSON: keys and their order are a contract (additions only). Pure; remembers nothing."""

from collections.abc import Mapping

from exporter.model import Availability, Change, History, PastRun
from exporter.web.health_json import DURATION_DIGITS, moment, rounded
from exporter.web.wording import View

_RATIO_DIGITS = 6  # a tenth of a second in a day can be seen
_SECONDS_DIGITS = 1


def history_document(history: History, view: View) -> dict[str, object]:
    """All that is remembered, newest first, the longest list last. Messages and waits are null for whoever may not see them."""
    return {
        **availability_document(history.availability),
        "changes": [_change(change, view) for change in history.changes],
        "failures": [_failure(run, view) for run in history.failures],
        "runs": [_run(run) for run in history.runs],
    }


def availability_document(availability: Mapping[str, Availability]) -> dict[str, object]:
    """The share of good time in the time observed (0 to 1, null where nothing was observed), and how much was, by window."""
    return {
        "availability": {window: rounded(told.ratio, _RATIO_DIGITS) for window, told in availability.items()},
        "observed_seconds": {window: rounded(told.observed_seconds, _SECONDS_DIGITS) for window, told in availability.items()},
    }


def _change(change: Change, view: View) -> dict[str, object]:
    return {
        "time": moment(change.at),
        "from": change.before,
        "to": change.after,
        "reason": change.reason,
        "message": view.message(change.reason, change.message),
    }


def _failure(run: PastRun, view: View) -> dict[str, object]:
    return {
        "time": moment(run.ended_at),
        "collector": run.collector,
        "reason": run.reason,
        "message": view.message(run.reason, run.message),
        "duration_seconds": rounded(run.duration_seconds, DURATION_DIGITS),
        "retries": run.retries,
        "phases": [{"what": phase.what, "seconds": rounded(phase.seconds, DURATION_DIGITS)} for phase in run.phases]
        if view.details
        else None,
    }


def _run(run: PastRun) -> dict[str, object]:
    return {
        "time": moment(run.ended_at),
        "outcome": run.outcome,
        "reason": run.reason,
        "duration_seconds": rounded(run.duration_seconds, DURATION_DIGITS),
        "retries": run.retries,
    }
