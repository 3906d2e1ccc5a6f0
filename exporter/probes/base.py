"""What every probe type has: its settings' common keys, and the few methods the engine calls. Knows no driver."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from exporter.drivers.dns import Resolver
from exporter.errors import ProbeError
from exporter.model import Family, Metric, PoolUse, Reading
from exporter.probes.address import Server
from exporter.probes.fields import Count, Duration, Flag, Interval, Labels, Name, Text

DEFAULT_TIMEOUT_SECONDS = 5.0
CONFIRM_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 60.0
STALE_INTERVALS = 3

RetryPreset = Literal["none", "fast", "quick", "steady", "patient"]


class Settings(BaseModel):
    """Base of every mapping in the configuration: unknown keys are errors, values are frozen, no input is ever echoed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)


class RetrySettings(Settings):
    """Attempts within one run. Each wait is random, up to a bound that doubles from `initial` to `max`."""

    attempts: Annotated[Count, Field(ge=1, le=20, description="Attempts in one run, the first included.")] = 3
    initial: Annotated[Duration, Field(description="The first wait is at most this.")] = 0.2
    max: Annotated[Duration, Field(description="No wait is longer.")] = 1.0


class CircuitSettings(Settings):
    """When a target that fails is asked less and less often, and when it counts as back."""

    open_after: Annotated[
        Count | None,
        Field(
            ge=1, description="Failed checks in a row that open the circuit; default 5, or failure_threshold where that is more."
        ),
    ] = None
    close_after: Annotated[Count, Field(ge=1, description="Good trials in a row that close it again.")] = 2
    max_wait: Annotated[
        Duration | None,
        Field(
            description="Longest wait between trials, never below the interval;"
            " default 4 × interval but at most 60s, or the interval where that is longer."
        ),
    ] = None
    max_retry_after: Annotated[Duration, Field(description="Longest Retry-After of a target that is heeded.")] = 3600.0


class TlsSettings(Settings):
    """TLS towards the target. Files are PEM."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"key_file": ["cert_file"]}})

    ca_file: Annotated[Text | None, Field(description="Certificates to trust instead of the system's, as a path.")] = None
    cert_file: Annotated[Text | None, Field(description="Our certificate, as a path, where the target asks for one.")] = None
    key_file: Annotated[Text | None, Field(description="Its key, as a path, where the certificate's file does not hold it.")] = None
    server_name: Annotated[Text | None, Field(description="Name to send as SNI and to verify, instead of the host.")] = None
    insecure_skip_verify: Annotated[Flag, Field(description="Accept any certificate: encrypted, but to whomever.")] = False
    min_version: Annotated[Literal["TLS12", "TLS13"], Field(description="Lowest version of TLS.")] = "TLS12"


class OwnSchedule(Settings):
    """What a collector can have of its own; what is left out is as the probe's."""

    interval: Annotated[Interval | None, Field(description="Time between two runs; default the probe's interval.")] = None
    timeout: Annotated[
        Duration | None, Field(description="Deadline of one run; default the probe's timeout, at most the collector's interval.")
    ] = None
    stale_after: Annotated[
        Duration | None,
        Field(
            description="Age at which its series leave /metrics; default the probe's stale_after, or 3 × the collector's interval."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """What holds for a collector after defaults; `stale_seconds` is the age at which its series leave /metrics."""

    interval_seconds: float
    timeout_seconds: float
    stale_seconds: float


class ProbeSettings(Settings):
    """The keys of every probe; a type's own settings extend it. Raw fields are named as in YAML; durations are seconds.

    The properties give what holds after defaults: use them, not the raw field.
    """

    up: ClassVar[Metric]
    """The gauge the engine writes on every check: 1, or 0 when it failed."""
    default_retry: ClassVar[RetryPreset] = "none"

    type: Annotated[Text, Field(description="Type of the target.")]
    interval: Annotated[
        Interval,
        Field(description="Time between two checks, and between two runs of a collector that has none of its own; 100ms at least."),
    ] = 15.0
    timeout: Annotated[
        Duration | None,
        Field(description="Deadline of one whole run, retries included; default 5s, or the interval where that is shorter."),
    ] = None
    retry: Annotated[
        RetryPreset | RetrySettings | None, Field(description="Attempts within one run: a preset, or a mapping; default by type.")
    ] = None
    circuit: Annotated[
        CircuitSettings | Literal["on", "off"] | None,
        Field(description="A mapping, or off: then a target that fails is asked as often as any other."),
    ] = "on"
    failure_threshold: Annotated[
        Count, Field(ge=1, le=100, description="Checks in a row that confirm a change to worse: the best of them counts.")
    ] = 2
    success_threshold: Annotated[
        Count, Field(ge=1, le=100, description="Checks in a row that confirm a change to better: the worst of them counts.")
    ] = 2
    degraded_after: Annotated[Duration | None, Field(description="A success that takes longer is degraded, with reason slow.")] = (
        None
    )
    stale_after: Annotated[
        Duration | None,
        Field(description="Age since a collector's last success at which its series leave /metrics; default 3 × its interval."),
    ] = None
    critical: Annotated[Flag, Field(description="Whether the aggregate is unhealthy when this probe is; else it is degraded.")] = (
        True
    )
    depends_on: Annotated[
        tuple[Text, ...], Field(description="Probes whose failure explains this one's; it is measured all the same.")
    ] = ()
    labels: Annotated[Labels, Field(description="Labels on every series of this probe, beside those at the top; its own win.")] = {}
    aliases: Annotated[tuple[Name, ...], Field(description="Further names for it under /health/.")] = ()
    enabled: Annotated[
        Flag, Field(description="Whether it runs; one that does not is shown as unknown, and left out of the aggregate.")
    ] = True
    max_series: Annotated[
        Count,
        Field(ge=1, description="Most series of this probe on /metrics; whole label sets beyond it are dropped, and counted."),
    ] = 10000
    tls: Annotated[TlsSettings | None, Field(description="TLS towards the target; a mapping, which may be empty, demands it.")] = (
        None
    )
    _inferred: bool = PrivateAttr(default=False)  # not a field: nobody can write it

    @property
    def inferred(self) -> bool:
        """Whether nobody named the target: it was guessed from what else is there, and is to be doubted when it does not answer."""
        return self._inferred

    def as_inferred(self) -> Self:
        """The same settings, said to be a guess."""
        copy = self.model_copy()
        copy._inferred = True  # noqa: SLF001  # our own class
        return copy

    def declared(self) -> tuple[Metric, ...]:
        """Every metric this configured probe can emit, user-named ones included, `up` too; before any connection."""
        return (self.up,)

    @property
    def server(self) -> Server | None:
        """Where the target is, None where a type has no address of its own.

        Raises:
            ValueError: the address cannot be read or is missing; with a sentence for the user.
        """
        return None

    def advice(self) -> Iterator[str]:
        """What is worth a warning at start about where the target is, one safe line each; for an address that can be read."""
        yield from ()

    def rests_on(self, other: "ProbeSettings") -> bool:
        """Whether the target lives on the other probe's server, so that it depends on it without being told."""
        return False

    def connections(self) -> int | None:
        """The most connections the probe holds to its target, None where it keeps none."""
        return None

    @property
    def timeout_seconds(self) -> float:
        return self.timeout if self.timeout is not None else min(DEFAULT_TIMEOUT_SECONDS, self.interval)

    @property
    def confirm_seconds(self) -> float:
        """Wait after a check that contradicts the confirmed status."""
        return min(self.interval, CONFIRM_SECONDS)

    @property
    def circuit_settings(self) -> CircuitSettings | None:
        """The circuit's settings, None when it is off."""
        if isinstance(self.circuit, CircuitSettings):
            return self.circuit
        return CircuitSettings() if self.circuit == "on" else None

    @property
    def open_after(self) -> int:
        written = self.circuit_settings.open_after if self.circuit_settings else None
        return written if written is not None else max(5, self.failure_threshold)

    @property
    def max_wait_seconds(self) -> float:
        """Never below the interval: a circuit stretches the schedule, and a target that fails is not asked more often for it."""
        written = self.circuit_settings.max_wait if self.circuit_settings else None
        return max(self.interval, written if written is not None else min(4 * self.interval, LONGEST_WAIT_SECONDS))

    def own_schedules(self) -> Mapping[str, OwnSchedule]:
        """Those collectors that can have a schedule of their own, by name."""
        return {}

    def schedule_of(self, collector: str) -> Schedule:
        """When a collector runs. A timeout that is not its own is lowered to its interval."""
        own = self.own_schedules().get(collector, OwnSchedule())
        interval = own.interval if own.interval is not None else self.interval
        timeout = own.timeout if own.timeout is not None else min(self.timeout_seconds, interval)
        return Schedule(interval, timeout, own.stale_after if own.stale_after is not None else self.stale_seconds(interval))

    def stale_seconds(self, interval_seconds: float) -> float:
        """Age at which series of a collector with that interval leave /metrics."""
        return self.stale_after if self.stale_after is not None else STALE_INTERVALS * interval_seconds


S = TypeVar("S", bound=ProbeSettings)


@dataclass(frozen=True, slots=True)
class Collector:
    """Something read beside the check, on its own schedule and under its own deadline, one run at a time.

    `stale_seconds` is the age at which its series leave /metrics; None: as the probe's settings say of its interval.
    """

    name: str
    interval_seconds: float
    timeout_seconds: float
    run: Callable[[], Awaitable[Reading]]
    stale_seconds: float | None = None


Wake = Callable[[], object]
"""Asks for a check now."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a probe shares with the rest of the process. `instance` names what we leave on brokers."""

    instance: str
    resolver: Resolver


class Probe(ABC, Generic[S]):
    """One configured target. Methods raise ProbeError, or a driver's own exception, which the engine hands to `translate`."""

    def __init__(self, name: str, settings: S, runtime: Runtime) -> None:
        self.name = name
        self.settings = settings
        self.runtime = runtime

    @abstractmethod
    async def check(self) -> Reading:
        """Decides status, circuit and the up series; connects when it must, on a connection of its own."""

    def collectors(self) -> tuple[Collector, ...]:
        """What is read beside the check; they rest while the circuit is open. The same names for the life of the probe."""
        return ()

    async def listen(self, wake: Wake) -> None:
        """Runs for ever beside the check; `wake()` asks for a check now. Listening is optional.

        Restarted 1 s after it ends; refused (auth, forbidden), up to 30 s after, or as soon as a check succeeds.
        """

    def counters(self) -> tuple[int, tuple[Family, ...]]:
        """What listening counted, with a version that rises on each change; read at snapshot; never stale."""
        return (0, ())

    def pool(self) -> PoolUse | None:
        """Connections held right now, None where none are kept."""
        return None

    def drop(self, collector: str) -> None:
        """Aborts the connections that a run of `collector` (CHECK for the check) holds, and idle ones it has made doubtful.

        Called by the engine after a timeout, a cancel or any doubt; returns at once, never raises.
        """

    async def aclose(self) -> None:
        """Ends all connections; called once, after the last run."""

    @staticmethod
    @abstractmethod
    def translate(error: Exception) -> ProbeError | None:
        """The ProbeError for a driver's exception; None for our own bug, which becomes reason internal."""
