"""The health bodies as JSON: keys and their order are a contract (additions only). Pure; judges nothing."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring

from exporter.health import ProbeHealth
from exporter.model import CircuitStatus, CollectorStatus, Status
from exporter.web.wording import View

_AGE_DIGITS = 1
DURATION_DIGITS = 6
_NEWLINE = "\n"


def health_document(view: View, version: str, uptime_seconds: float) -> dict[str, object]:
    """The aggregate with all of its probes, worst first."""
    report = view.report
    return {
        "status": report.status,
        "time": moment(view.wall),
        "version": version,
        "uptime_seconds": round(uptime_seconds, _AGE_DIGITS),
        "root_causes": report.root_causes,
        "probes": {health.probe.name: probe_document(health, view) for health in report.probes},
    }


def probe_document(health: ProbeHealth, view: View) -> dict[str, object]:
    """One probe's object. Nulls are what has not happened, what is healthy, and what this reader may not see."""
    probe = health.probe
    healthy = health.status is Status.HEALTHY
    return {
        "status": health.status,
        "type": probe.type,
        "critical": probe.critical,
        "reason": None if healthy else probe.reason,
        "message": None if healthy else view.message(probe.reason, probe.message),
        "since": moment(probe.since_at),
        "last_run": moment(probe.last_run_at),
        "last_success": moment(probe.last_success_at),
        "age_seconds": _age(probe.last_run, view),
        "duration_seconds": rounded(probe.duration_seconds, DURATION_DIGITS),
        "consecutive_failures": probe.consecutive_failures,
        "stale": health.stale,
        "caused_by": health.caused_by,
        "circuit": circuit_document(probe.circuit, view.now),
        "detail": dict(probe.detail) if view.details else None,
        "collectors": {collector.name: _collector(collector, view) for collector in probe.collectors},
    }


def circuit_document(circuit: CircuitStatus, now: float) -> dict[str, object]:
    """A circuit's object; `next_attempt_in_seconds` is null while it is closed."""
    wait = None if circuit.next_attempt is None else max(0.0, circuit.next_attempt - now)
    return {"state": circuit.state, "next_attempt_in_seconds": rounded(wait, _AGE_DIGITS)}


def _collector(collector: CollectorStatus, view: View) -> dict[str, object]:
    """`age_seconds` is since its last success: what `stale_after` is compared with."""
    return {
        "success": collector.success,
        "reason": collector.reason,
        "age_seconds": _age(collector.last_success, view),
        "duration_seconds": rounded(collector.duration_seconds, DURATION_DIGITS),
    }


def _age(moment: float | None, view: View) -> float | None:
    return None if moment is None else round(view.age(moment), _AGE_DIGITS)


def rounded(value: float | None, digits: int) -> float | None:
    """To so many digits; None stays."""
    return None if value is None else round(value, digits)


def moment(at: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def encode(document: Mapping[str, object]) -> bytes:
    """The document as JSON, indented by two, with one newline at its end."""
    # a lone surrogate, which a target may send, becomes a valid JSON escape
    return f"{_indented(dict(document), _NEWLINE)}\n".encode("utf-8", "backslashreplace")


def _indented(value: object, margin: str) -> str:
    """What json.dumps(indent=2) writes, in half the time: that takes its pure Python path once it indents.

    `margin` is a newline and the indentation of what surrounds the value.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    inner = margin + "  "
    if isinstance(value, dict):
        items = [f"{encode_basestring(str(key))}: {_indented(item, inner)}" for key, item in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{margin}}}" if items else "{}"
    if isinstance(value, list | tuple):
        items = [_indented(item, inner) for item in value]
        return f"[{inner}{f',{inner}'.join(items)}{margin}]" if items else "[]"
    return _scalar(value)


def _scalar(value: object) -> str:
    """A detail of a type that JSON lacks is told as text: an odd value of a target must not cost the whole body."""
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else "null"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return int.__repr__(value) if isinstance(value, int) else encode_basestring(str(value))
