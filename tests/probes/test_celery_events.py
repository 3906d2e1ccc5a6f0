"""What the event stream adds up to."""

from exporter.model import Distribution, Value
from exporter.probes.celery.events import MOST_NAMES, MOST_RECENT, MOST_TASKS, UNKNOWN, Tasks
from exporter.probes.celery.protocol import Rejection, State, TaskEvent
from exporter.probes.tally import OVERFLOW


def nowhere(_: str) -> None:
    """No worker has told its queue."""


def step(state: State, at: float | None = None, *, uuid: str = "u", **fields: object) -> TaskEvent:
    return TaskEvent(state, uuid, str(fields.pop("hostname", "w1@h")), at, **fields)  # type: ignore[arg-type]


def rows(tasks: Tasks, name: str) -> dict[tuple[str, ...], Value]:
    return {labels: value for family in tasks.families() if family.metric.name == name for labels, value in family.rows}


def counts(tasks: Tasks) -> dict[tuple[str, ...], Value]:
    return rows(tasks, "celery_tasks_total")


def seconds(tasks: Tasks, name: str, state: str) -> tuple[float, int]:
    value = rows(tasks, "celery_task_duration_seconds")[name, state]
    assert isinstance(value, Distribution)
    return value.sum, value.count


def test_steps_of_a_task_take_name_and_queue_from_its_first_ones() -> None:
    """Only task-received knows the name and only task-sent the queue; started and succeeded have the uuid alone."""
    tasks = Tasks()
    tasks.add(step(State.SENT, name="add", queue="q", hostname="gen7@client"), nowhere)
    for event in (step(State.RECEIVED, name="add"), step(State.STARTED), step(State.SUCCEEDED, runtime_seconds=0.5)):
        tasks.add(event, nowhere)
    assert counts(tasks) == {("add", state, "q"): 1 for state in ("sent", "received", "started", "succeeded")}
    assert seconds(tasks, "add", "succeeded") == (0.5, 1)


def test_without_task_sent_the_queue_is_the_workers_only_one() -> None:
    """task_send_sent_event is off by default."""
    tasks = Tasks()
    tasks.add(step(State.RECEIVED, name="add"), {"w1@h": "q"}.get)
    tasks.add(step(State.RECEIVED, name="add", uuid="v", hostname="w2@h"), {"w1@h": "q"}.get)
    assert counts(tasks) == {("add", "received", "q"): 1, ("add", "received", UNKNOWN): 1}


def test_a_task_seen_from_the_middle_is_counted_under_an_unknown_name() -> None:
    """A number that is right in sum is better than one that is missing."""
    tasks = Tasks()
    tasks.add(step(State.SUCCEEDED, runtime_seconds=2.0), nowhere)
    assert counts(tasks) == {(UNKNOWN, "succeeded", UNKNOWN): 1}
    assert seconds(tasks, UNKNOWN, "succeeded") == (2.0, 1)


def test_failed_and_retried_last_from_start_to_end_on_one_clock() -> None:
    """Their events carry no runtime."""
    tasks = Tasks()
    for event in (
        step(State.RECEIVED, 1.0, name="add"),
        step(State.STARTED, 2.0),
        step(State.RETRIED, 2.5),
        step(State.STARTED, 10.0),
        step(State.FAILED, 14.0),
    ):
        tasks.add(event, nowhere)
    assert seconds(tasks, "add", "retried") == (0.5, 1)
    assert seconds(tasks, "add", "failed") == (4.0, 1)


def test_clocks_of_two_workers_are_never_compared() -> None:
    """Nor does time run backwards on one."""
    tasks = Tasks()
    tasks.add(step(State.STARTED, 2.0), nowhere)
    tasks.add(step(State.FAILED, 5.0, hostname="w2@h"), nowhere)
    tasks.add(step(State.STARTED, 2.0, uuid="v"), nowhere)
    tasks.add(step(State.FAILED, 1.0, uuid="v"), nowhere)
    assert rows(tasks, "celery_task_duration_seconds") == {}


def test_names_are_bounded() -> None:
    """Whoever makes names up, with an id in each, is counted as other."""
    tasks = Tasks()
    for number in range(MOST_NAMES + 5):
        tasks.add(step(State.RECEIVED, uuid=f"{number}", name=f"task-{number}"), nowhere)
    assert counts(tasks)[OVERFLOW, "received", UNKNOWN] == 5
    assert len(counts(tasks)) == MOST_NAMES + 1


def test_memory_is_bounded() -> None:
    """A million tasks that never end cost no more than the last fifty thousand."""
    tasks = Tasks()
    for number in range(MOST_TASKS + 100):
        tasks.add(step(State.STARTED, uuid=f"{number}"), nowhere)
    assert len(tasks._under_way) == MOST_TASKS
    assert len(tasks._recent) == MOST_RECENT


def test_an_ended_task_is_forgotten() -> None:
    """What has succeeded is done with; what is retried goes on."""
    tasks = Tasks()
    for state in (State.RECEIVED, State.STARTED, State.RETRIED):
        tasks.add(step(state), nowhere)
    assert len(tasks._under_way) == 1
    tasks.add(step(State.SUCCEEDED), nowhere)
    assert len(tasks._under_way) == 0


def test_an_event_delivered_twice_is_known_again() -> None:
    """The broker delivers again what it has not seen acknowledged; the same step at another moment is another one."""
    tasks = Tasks()
    tasks.add(step(State.STARTED, 1.0), nowhere)
    assert tasks.has(step(State.STARTED, 1.0))
    assert not tasks.has(step(State.STARTED, 2.0))


def test_every_change_raises_the_version() -> None:
    """A snapshot takes over only what has changed."""
    tasks = Tasks()
    versions = [tasks.version]
    tasks.add(step(State.STARTED), nowhere)
    versions.append(tasks.version)
    tasks.reject([Rejection.NOT_JSON])
    versions.append(tasks.version)
    assert versions == sorted(set(versions))
    assert rows(tasks, "celery_events_rejected_total")[("not_json",)] == 1
