"""What the event stream adds up to: tasks by state, how long they ran, what could not be read. Pure; counts only grow.

A worker names the task in task-received alone, and a queue stands in task-sent alone; the steps of one task are put together
by its uuid. What a task was given, returned or raised is never kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exporter.model import Family
from exporter.probes.celery.metrics import EVENTS_REJECTED, TASK_SECONDS, TASKS
from exporter.probes.celery.protocol import Rejection, State, TaskEvent
from exporter.probes.tally import Bounded, Histograms, Tally

UNKNOWN = "unknown"
BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

MOST_NAMES = 200
MOST_QUEUES = 100
MOST_TASKS = 50_000
"""Tasks under way that are remembered; the oldest is forgotten first, and its later steps are of an unknown name."""
MOST_RECENT = 10_000
"""Events that are remembered to know them again when the broker delivers them twice."""

_ENDS = frozenset({State.SUCCEEDED, State.FAILED, State.REVOKED, State.REJECTED})
_TIMED = frozenset({State.FAILED, State.RETRIED})


@dataclass(slots=True)
class _Task:
    """What earlier steps of a task told; mutable. `started` is when, on the clock of the worker `hostname`."""

    name: str | None = None
    queue: str | None = None
    started: float | None = None
    hostname: str = ""


class Tasks:
    """The fold of all events of one probe; mutable."""

    def __init__(self) -> None:
        self.version = 0
        self._counts = Tally()
        self._durations = Histograms(BOUNDS_SECONDS)
        self._rejected = dict.fromkeys(Rejection, 0)
        self._names = Bounded(MOST_NAMES)
        self._queues = Bounded(MOST_QUEUES)
        self._under_way: OrderedDict[str, _Task] = OrderedDict()
        self._recent: OrderedDict[tuple[str, State, float | None], None] = OrderedDict()

    def add(self, event: TaskEvent, queue_of: Callable[[str], str | None]) -> None:
        """Counts one step. `queue_of` gives the only queue of a worker, for where the event names none."""
        self.version += 1
        self._remember(event)
        task = self._task(event)
        queue = task.queue or queue_of(event.hostname) or UNKNOWN
        name = self._names.of(task.name or UNKNOWN)
        self._counts.add(name, event.state.value, self._queues.of(queue))
        seconds = _duration(event, task)
        if seconds is not None:
            self._durations.observe(seconds, name, event.state.value)
        if event.state is State.STARTED:
            task.started, task.hostname = event.timestamp, event.hostname
        elif event.state in _ENDS:
            self._under_way.pop(event.uuid, None)

    def has(self, event: TaskEvent) -> bool:
        """Whether this very event was counted lately: a broker delivers again what was not acknowledged in time."""
        return _key(event) in self._recent

    def reject(self, rejections: Iterable[Rejection]) -> None:
        """Counts what could not be read."""
        for rejection in rejections:
            self.version += 1
            self._rejected[rejection] += 1

    def families(self) -> tuple[Family, ...]:
        rejected = tuple(((reason.value,), count) for reason, count in self._rejected.items())
        return (
            Family(TASKS, self._counts.rows()),
            Family(TASK_SECONDS, self._durations.rows()),
            Family(EVENTS_REJECTED, rejected),
        )

    def _task(self, event: TaskEvent) -> _Task:
        task = self._under_way.setdefault(event.uuid, _Task())
        self._under_way.move_to_end(event.uuid)
        if len(self._under_way) > MOST_TASKS:
            self._under_way.popitem(last=False)
        task.name = event.name or task.name
        task.queue = event.queue or task.queue
        return task

    def _remember(self, event: TaskEvent) -> None:
        self._recent[_key(event)] = None
        if len(self._recent) > MOST_RECENT:
            self._recent.popitem(last=False)


def _key(event: TaskEvent) -> tuple[str, State, float | None]:
    return event.uuid, event.state, event.timestamp


def _duration(event: TaskEvent, task: _Task) -> float | None:
    """Seconds the task ran; None where it cannot be told: two clocks are never compared, and time does not run backwards."""
    if event.state is State.SUCCEEDED:
        seconds = event.runtime_seconds
    elif event.state not in _TIMED or event.hostname != task.hostname or event.timestamp is None or task.started is None:
        return None
    else:
        seconds = event.timestamp - task.started
    return seconds if seconds is not None and seconds >= 0 else None
