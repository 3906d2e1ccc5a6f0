"""Counts and times our own requests. Mutable, on one loop; label values come from closed sets."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from exporter.model import Distribution, Family, Kind, Metric

BOUNDS_SECONDS = (0.001, 0.005, 0.025, 0.1, 1.0)

REQUESTS = Metric(
    "sidecar_http_requests_total",
    Kind.COUNTER,
    "Requests to this exporter's own HTTP port, by route, method and status code.",
    ("handler", "method", "code"),
)
DURATION = Metric(
    "sidecar_http_request_duration_seconds",
    Kind.HISTOGRAM,
    "Seconds from a request's headers to its answer being ready to send, by route.",
    ("handler",),
)

# the methods of RFC 9110 9.3 and PATCH (RFC 5789); a client may send any word
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"})
_OTHER = "other"

Labels = tuple[str, str, str]


class _Timing:
    """One histogram: a count for each bucket, the one above all bounds last."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.sum = 0.0

    def distribution(self) -> Distribution:
        *cumulative, total = accumulate(self.counts)
        return Distribution(BOUNDS_SECONDS, tuple(cumulative), self.sum, total)


class Tally:
    """`expected` are the (handler, method, code) that stand at 0 from the start; all handlers must be among them."""

    def __init__(self, expected: Iterable[Labels]) -> None:
        self._requests: dict[Labels, int] = dict.fromkeys(expected, 0)
        self._timings = {handler: _Timing() for handler, _, _ in self._requests}

    def count(self, handler: str, method: str, code: int, seconds: float) -> None:
        """A request was answered, `seconds` after it came."""
        labels = (handler, method if method in _METHODS else _OTHER, str(code))
        self._requests[labels] = self._requests.get(labels, 0) + 1
        timing = self._timings[handler]
        timing.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        timing.sum += seconds

    def families(self) -> tuple[Family, ...]:
        """What was counted so far, as metric families."""
        timings = tuple(((handler,), timing.distribution()) for handler, timing in self._timings.items())
        return (Family(REQUESTS, tuple(self._requests.items())), Family(DURATION, timings))
