"""The values everything else passes around: frozen, made of the standard library alone.

They know no driver, no clock, no configuration file and no HTTP. A probe makes a `Reading`, the schedule wraps it in a
`Run`, the state turns runs into a `Snapshot`, and health and exposition read the snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CHECK = "check"
"""The name of the collector that decides a probe's status."""


class Reason(StrEnum):
    """Why a check was not healthy: a closed set, safe as a label value and in a health body."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    UNREACHABLE = "unreachable"
    DNS = "dns"
    TLS = "tls"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    PROTOCOL = "protocol"
    OVERLOAD = "overload"
    NOT_READY = "not_ready"
    BLOCKED = "blocked"
    HTTP_STATUS = "http_status"
    RATE_LIMITED = "rate_limited"
    ASSERTION = "assertion"
    SLOW = "slow"
    UNSUPPORTED = "unsupported"
    CONFIG = "config"
    INTERNAL = "internal"


class Status(StrEnum):
    """What a reader of /health is told."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """How one run ended."""

    SUCCESS = "success"
    DEGRADED = "degraded"
    FAILURE = "failure"
    CANCELLED = "cancelled"


class CircuitState(StrEnum):
    """Where a probe's circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"


class Skip(StrEnum):
    """Why a planned run was passed over."""

    OVERLAP = "overlap"
    CIRCUIT = "circuit"
    FORCED = "forced"


class Kind(StrEnum):
    """Type of a metric family, in the words of the text format."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as declared: `name` is the name as exposed (a counter's includes its `_total`, where it has one).

    `labels` are the names of the labels that its rows carry, in the rows' order; `probe` and static labels are added by
    the exposition and never stand here.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Distribution:
    """The value of one histogram row: `counts` are cumulative, one for each of `bounds` (upper-inclusive, rising, without +Inf)."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    count: int


Value = int | float | Distribution
Row = tuple[tuple[str, ...], Value]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its rows: label values in the order of `metric.labels`, and the value. No two rows share label values."""

    metric: Metric
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether something optional can be read from the target, and what would bring it (one line, shown to an operator)."""

    feature: str
    available: bool
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one run read.

    `detail` holds small facts for /health (JSON scalars or flat lists of them), never a secret. `degraded` with a `message`
    says that the target answers but not as it should; 429 and 418 are a reading degraded by `rate_limited`, with
    `retry_after_seconds` where the server named it, not an error.
    """

    families: tuple[Family, ...] = ()
    detail: Mapping[str, object] = field(default_factory=dict)
    degraded: Reason | None = None
    message: str | None = None
    capabilities: tuple[Capability, ...] = ()
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Phase:
    """A wait within a run: for what, a safe text such as `connect 10.0.0.7:5432`, and how long. A wait may lie within another."""

    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run of a check or a collector.

    `ended` is monotonic seconds, `ended_at` Unix seconds. `reason` and `message` are None when the outcome is success or
    cancelled. `reading` is None when nothing was read; a failed run may carry what it did read. `phases` are a failed run's
    last waits, in the order in which they began.
    """

    collector: str
    outcome: Outcome
    ended: float
    ended_at: float
    duration_seconds: float
    reason: Reason | None = None
    message: str | None = None
    retries: int = 0
    reading: Reading | None = None
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections a probe holds to its target right now, and the most it may hold."""

    idle: int
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class CollectorStatus:
    """A collector beside the check. `success` is None until a run has ended; moments ending in `_at` are Unix seconds."""

    name: str
    success: bool | None = None
    reason: Reason | None = None
    message: str | None = None
    last_success: float | None = None
    last_success_at: float | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CircuitStatus:
    """Where a circuit stands. `next_attempt` is monotonic seconds, None while closed. A circuit switched off stays closed."""

    state: CircuitState = CircuitState.CLOSED
    next_attempt: float | None = None


@dataclass(frozen=True, slots=True)
class ProbeStatus:
    """What is known of one probe. Moments are monotonic seconds, those ending in `_at` Unix seconds; None: it has not happened.

    `status` is the confirmed one, UNKNOWN before the first verdict; `reason` and `message` belong to the last non-healthy
    check behind it. `failing` is whether the last check failed, confirmed or not. `limited_since` is when the target began to
    keep us away by rate limits, while it does. After `overdue` without a further check the status no longer counts.
    """

    name: str
    type: str
    critical: bool = True
    enabled: bool = True
    depends_on: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    status: Status = Status.UNKNOWN
    reason: Reason | None = None
    message: str | None = None
    limited_since: float | None = None
    since: float | None = None
    since_at: float | None = None
    last_run: float | None = None
    last_run_at: float | None = None
    last_success_at: float | None = None
    duration_seconds: float | None = None
    failing: bool = False
    consecutive_failures: int = 0
    overdue: float = float("inf")
    circuit: CircuitStatus = CircuitStatus()
    detail: Mapping[str, object] = field(default_factory=dict)
    collectors: tuple[CollectorStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class PastRun:
    """What is remembered of a run; `ended_at` is Unix seconds. `message` and `phases` are kept of failures alone."""

    collector: str
    outcome: Outcome
    ended_at: float
    duration_seconds: float
    reason: Reason | None
    retries: int
    message: str | None = None
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """The confirmed status went from `before` to `after`, at Unix seconds; `reason` and `message` stand behind `after`."""

    at: float
    before: Status
    after: Status
    reason: Reason | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """Of the last while: seconds in which a probe's status was known, and those of them in which it was healthy or degraded."""

    good_seconds: float
    observed_seconds: float

    @property
    def ratio(self) -> float | None:
        """The share of good time in what was observed, 0 to 1; None while nothing was."""
        return self.good_seconds / self.observed_seconds if self.observed_seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Recent:
    """The past of one probe at a glance: outcomes of its last checks, oldest first, and availability by window (`1h`)."""

    outcomes: tuple[Outcome, ...]
    availability: Mapping[str, Availability]


@dataclass(frozen=True, slots=True)
class History:
    """The past of one probe as far as it is remembered, newest first. `runs` are of its check, `failures` of collectors too."""

    runs: tuple[PastRun, ...]
    failures: tuple[PastRun, ...]
    changes: tuple[Change, ...]
    availability: Mapping[str, Availability]


@dataclass(frozen=True, slots=True)
class Block:
    """One family as one run read it. `run` numbers the reading, so equal numbers mean equal rows. Leaves /metrics at `until`
    (monotonic seconds; infinite for what never goes stale)."""

    collector: str
    run: int
    family: Family
    until: float


@dataclass(frozen=True, slots=True)
class ProbeTally:
    """What /metrics tells of one probe beside its status. `version` is another number, of all probes ever, after every change.

    `labels` are the static labels of its series, `probe` first. Mappings hold every key of their closed set from the start,
    but for `failures`, which holds a reason from its first time on. `next_attempt_at` is Unix seconds, None while closed.
    """

    name: str
    version: int
    labels: tuple[tuple[str, str], ...]
    interval_seconds: float
    runs: Mapping[Outcome, int]
    failures: Mapping[Reason, int]
    retries: int
    skipped: Mapping[Skip, int]
    abandoned: int
    durations: Distribution
    series: int
    dropped: int
    transitions: Mapping[tuple[CircuitState, CircuitState], int]
    next_attempt_at: float | None
    pool: PoolUse | None
    capabilities: tuple[tuple[str, bool], ...]
    up: bool | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Reload:
    """How the last attempt to load a configuration went; `at` is the last success, Unix seconds."""

    successful: bool
    at: float
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything readers see, at one moment. `beat` is the scheduler's last heartbeat (monotonic seconds; before the first one
    the start), `beat_at` the same in Unix seconds, `lags` the loop's last lag samples in seconds, one a second, newest last.
    `generation` rises whenever a verdict may have changed."""

    generation: int
    started: float
    probes: tuple[ProbeStatus, ...]
    beat: float
    beat_at: float | None = None
    lags: tuple[float, ...] = ()
    tallies: tuple[ProbeTally, ...] = ()
    reload: Reload = Reload(successful=True, at=0.0)
