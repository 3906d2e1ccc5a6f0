"""Turns what a check measured into series and facts. Pure: knows neither connection nor clock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from exporter.drivers.http import Answer, Hop, Session
from exporter.model import Family, Metric, Reading, Row
from exporter.probes.http import metrics
from exporter.probes.http.body import Body

_PHASES = ("resolve", "connect", "tls", "processing", "transfer")


@dataclass(frozen=True, slots=True)
class Measured:
    """One check: its requests in turn, and the last answer with its body, None when there was none."""

    trail: Sequence[Hop]
    duration_seconds: float
    answer: Answer | None = None
    body: Body | None = None
    regex_failed: bool = False


def reading(measured: Measured) -> Reading:
    """All that could be read, of a failed check too."""
    return Reading(families=tuple(_families(measured)), detail=_detail(measured))


def _families(measured: Measured) -> Iterator[Family]:
    yield _single(metrics.DURATION, measured.duration_seconds)
    yield from _of_trail(measured.trail)
    if measured.trail and measured.trail[-1].tls is not None:
        yield from _of_session(measured.trail[-1].tls)
    if measured.answer is not None:
        yield from _of_answer(measured, measured.answer)


def _of_trail(trail: Sequence[Hop]) -> Iterator[Family]:
    sums = {phase: [hop.seconds[phase] for hop in trail if phase in hop.seconds] for phase in _PHASES}
    rows: tuple[Row, ...] = tuple(((phase,), sum(seconds)) for phase, seconds in sums.items() if seconds)
    if rows:
        yield Family(metrics.PHASE_SECONDS, rows)
    if trail and "resolve" in trail[0].seconds:
        yield _single(metrics.LOOKUP_SECONDS, trail[0].seconds["resolve"])
    if trail and trail[0].ip_version is not None:
        yield _single(metrics.IP_PROTOCOL, trail[0].ip_version)
    if len(trail) > 1:
        yield _single(metrics.REDIRECTS, len(trail) - 1)


def _of_session(session: Session) -> Iterator[Family]:
    yield Family(metrics.TLS_VERSION, (((_tls_version(session),), 1),))
    if session.expires is not None:
        yield _single(metrics.CERT_EXPIRY, session.expires)


def _of_answer(measured: Measured, answer: Answer) -> Iterator[Family]:
    yield _single(metrics.STATUS_CODE, answer.status)
    if answer.http_version:
        yield _single(metrics.VERSION, float(answer.http_version))
    yield _single(metrics.SSL, int(measured.trail[-1].tls is not None))
    yield _single(metrics.REGEX_FAILED, int(measured.regex_failed))
    if len(measured.trail) == 1:
        yield _single(metrics.REDIRECTS, 0)
    if answer.content_length is not None:
        yield _single(metrics.CONTENT_LENGTH, answer.content_length)
    if measured.body is not None and measured.body.length is not None:
        yield _single(metrics.BODY_LENGTH, measured.body.length)


def _detail(measured: Measured) -> dict[str, object]:
    detail: dict[str, object] = {}
    if measured.answer is not None:
        detail |= {"status": measured.answer.status, "http_version": measured.answer.http_version}
    if len(measured.trail) > 1:
        detail["redirects"] = len(measured.trail) - 1
    last = measured.trail[-1] if measured.trail else None
    if last is not None and (last.tls is not None or measured.answer is not None):
        detail |= _tls_detail(last.tls)
    return detail


def _tls_detail(session: Session | None) -> dict[str, object]:
    if session is None:
        return {"tls": False}
    expires = None if session.expires is None else datetime.fromtimestamp(session.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"tls": True, "tls_version": _tls_version(session)} | ({"certificate_expires": expires} if expires else {})


def _tls_version(session: Session) -> str:
    return session.version.replace("TLSv", "TLS ")  # as Go, and so blackbox, writes it


def _single(metric: Metric, value: float) -> Family:
    return Family(metric, (((), value),))
