"""Which workers there are and whether they live, from pings and heartbeats. Pure: moments are passed in, monotonic seconds.

A worker is down when it said goodbye, or when what it owes us has not come: an answer to a ping, and, where we can hear, its
heartbeat. While we are deaf a missing heartbeat means nothing, and one or two missing answers are not believed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.probes.celery.protocol import Sign, WorkerEvent

DEFAULT_FREQ_SECONDS = 2.0  # celery/worker/heartbeat.py
SILENT_BEATS = 3
SHORTEST_SILENCE_SECONDS = 6.0
SILENT_MISSES = 2
"""Answers missing in a row that are believed of a worker that sends no heartbeats,"""
DEAF_MISSES = 3
"""and of any while we are deaf, or have been until now: after a broker's restart workers take up to six seconds to come back."""
EVENTS_LATE_SECONDS = 5.0
"""How long after a heartbeat told of an accepted task its event may still come: workers send them in batches."""
FORGET_SECONDS = 3600.0
MOST_WORKERS = 200
MOST_QUESTIONS = 5


@dataclass(slots=True)
class _Worker:
    """What is known of one; mutable. Moments are None while it has not happened."""

    up: bool = False
    said_goodbye: bool = False
    beat: float | None = None
    asked: float | None = None
    answered: bool = False
    missed: int = 0
    freq_seconds: float = DEFAULT_FREQ_SECONDS
    seen: float = 0.0
    queues: tuple[str, ...] | None = None
    questions: int = 0
    processed: int | None = None
    heard_since_beat: bool = False
    accepted_unheard: float | None = None
    task_events: bool | None = None

    @property
    def silence_seconds(self) -> float:
        """How long it may be silent."""
        return max(SILENT_BEATS * self.freq_seconds, SHORTEST_SILENCE_SECONDS)


class Workers:
    """All workers of one probe; mutable. `configured` ones are never forgotten, and are down until they are seen."""

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self.configured = tuple(dict.fromkeys(configured))
        self._workers = {name: _Worker() for name in self.configured}

    # --- what is heard --------------------------------------------------------------------------------------------------

    def heard(self, event: WorkerEvent, now: float) -> None:
        """Takes in a worker's own event."""
        worker = self._known(event.hostname, now)
        if event.sign is Sign.OFFLINE:
            worker.said_goodbye, worker.up = True, False
            return
        worker.beat, worker.said_goodbye, worker.up = now, False, True
        if event.freq_seconds is not None and event.freq_seconds > 0:
            worker.freq_seconds = event.freq_seconds
        if event.sign is Sign.ONLINE:
            worker.queues = worker.processed = worker.accepted_unheard = None
            worker.missed = worker.questions = 0
        _note_processed(worker, event.processed, now)

    def heard_task(self, hostname: str, now: float) -> None:
        """A worker told of a task: it lives, and its task events are on."""
        worker = self._known(hostname, now)
        worker.beat, worker.said_goodbye, worker.up = now, False, True
        worker.task_events, worker.heard_since_beat, worker.accepted_unheard = True, True, None

    def asked(self, names: Iterable[str], answered: Iterable[str], now: float) -> None:
        """Takes in who answered a command; those of `names` that did not had time enough to."""
        answers = set(answered)
        for name in answers:
            worker = self._known(name, now)
            worker.asked, worker.answered, worker.missed, worker.said_goodbye, worker.up = now, True, 0, False, True
        for name in (set(names) - answers) & self._workers.keys():
            self._workers[name].asked = now
            self._workers[name].missed += 1

    def strangers(self) -> frozenset[str]:
        """Living ones that have not told their queues yet; each is named a few times only, as it may never answer.

        A worker says that it is online before it can be asked anything.
        """
        found = frozenset(
            name
            for name, worker in self._workers.items()
            if worker.up and worker.queues is None and worker.questions < MOST_QUESTIONS
        )
        for name in found:
            self._workers[name].questions += 1
        return found

    def consumes(self, hostname: str, queues: tuple[str, ...], now: float) -> None:
        """The queues that a worker says it consumes."""
        self._known(hostname, now).queues = queues

    # --- what follows ---------------------------------------------------------------------------------------------------

    def lives(self, now: float, hearing_since: float | None) -> Mapping[str, bool]:
        """Whether each lives, by name. `hearing_since` is since when events have been heard without a gap, None while deaf."""
        self._forget(now)
        for worker in self._workers.values():
            worker.up = _lives(worker, now, hearing_since)
        return {name: worker.up for name, worker in sorted(self._workers.items())}

    def awaited(self) -> frozenset[str]:
        """Those that are expected to answer a ping."""
        return frozenset((*self.configured, *(name for name, worker in self._workers.items() if worker.up)))

    def gone_silent(self, now: float) -> bool:
        """Whether the heartbeat of one that lives has stopped, and it was not asked since: a reason to look at once."""
        return any(worker.up and _silent_unasked(worker, now) for worker in self._workers.values())

    def queue_of(self, hostname: str) -> str | None:
        """The queue that a task of this worker came from, where it consumes one alone."""
        worker = self._workers.get(hostname)
        return worker.queues[0] if worker is not None and worker.queues is not None and len(worker.queues) == 1 else None

    def unheard(self, now: float) -> Mapping[str, bool]:
        """The living ones of which no task event is known to come: True where they accept tasks without telling, so it is off."""
        return {
            name: worker.task_events is False or _accepts_silently(worker, now)
            for name, worker in sorted(self._workers.items())
            if worker.up and (worker.task_events is not True or _accepts_silently(worker, now))
        }

    # --- within ---------------------------------------------------------------------------------------------------------

    def _known(self, name: str, now: float) -> _Worker:
        worker = self._workers.setdefault(name, _Worker())
        worker.seen = now
        return worker

    def _forget(self, now: float) -> None:
        for name, worker in list(self._workers.items()):
            if name not in self.configured and not worker.up and now - worker.seen > FORGET_SECONDS:
                del self._workers[name]
        surplus = len(self._workers) - MOST_WORKERS
        if surplus > 0:
            others = [name for name in self._workers if name not in self.configured]
            for name in sorted(others, key=lambda name: (self._workers[name].up, self._workers[name].seen))[:surplus]:
                del self._workers[name]


def _silent_unasked(worker: _Worker, now: float) -> bool:
    silent_since = None if worker.beat is None else worker.beat + worker.silence_seconds
    return silent_since is not None and silent_since < now and (worker.asked is None or worker.asked <= silent_since)


def _lives(worker: _Worker, now: float, hearing_since: float | None) -> bool:
    if worker.said_goodbye:
        return False
    beats = worker.beat is not None and now - worker.beat <= worker.silence_seconds
    if beats or (worker.answered and worker.missed == 0):
        return True
    # it takes a sign of life to come back: that we are deaf is none
    return worker.up and not _believed_dead(worker, hearing_since is not None and now - hearing_since > worker.silence_seconds)


def _believed_dead(worker: _Worker, would_be_heard: bool) -> bool:
    """Whether the silence of one that lived until now is believed; `would_be_heard`: a heartbeat would have been."""
    if not worker.answered:  # remote control may be off there: its heartbeat is all there is
        return would_be_heard
    if not would_be_heard:
        return worker.missed >= DEAF_MISSES
    return worker.missed >= (1 if worker.beat is not None else SILENT_MISSES)


def _note_processed(worker: _Worker, processed: int | None, now: float) -> None:
    """`processed` counts accepted tasks, with task events on or off (celery/worker/heartbeat.py, all_total_count)."""
    if processed is None:
        return
    accepted = worker.processed is not None and processed > worker.processed
    if accepted and not worker.heard_since_beat and worker.accepted_unheard is None:
        worker.accepted_unheard = now
    worker.processed, worker.heard_since_beat = processed, False


def _accepts_silently(worker: _Worker, now: float) -> bool:
    return worker.accepted_unheard is not None and now - worker.accepted_unheard > EVENTS_LATE_SECONDS
