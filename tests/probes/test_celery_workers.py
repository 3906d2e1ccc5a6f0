"""Which workers live, by pings and heartbeats."""

from exporter.probes.celery.protocol import Sign, WorkerEvent
from exporter.probes.celery.workers import FORGET_SECONDS, MOST_QUESTIONS, MOST_WORKERS, Workers

W = "w1@h"
ALWAYS = -1000.0
"""Since when we hear: long enough for a silence to mean something."""


def beat(workers: Workers, now: float, *, name: str = W, sign: Sign = Sign.HEARTBEAT, processed: int | None = None) -> None:
    workers.heard(WorkerEvent(sign, name, 2.0, processed), now)


def lives(workers: Workers, now: float, hearing_since: float | None = ALWAYS) -> bool:
    return workers.lives(now, hearing_since)[W]


def test_a_heartbeat_is_enough() -> None:
    """Remote control can be switched off."""
    workers = Workers()
    beat(workers, 0.0)
    workers.asked([W], [], 1.0)
    assert lives(workers, 6.0)
    assert not lives(workers, 6.1)


def test_an_answer_is_enough() -> None:
    """So can heartbeats."""
    workers = Workers()
    workers.asked([], [W], 0.0)
    assert lives(workers, 100.0)


def test_one_missing_answer_and_a_heartbeat_that_stopped_are_death() -> None:
    """Each alone could be an accident."""
    workers = Workers()
    beat(workers, 0.0)
    workers.asked([W], [W], 1.0)
    workers.asked([W], [], 5.0)
    assert lives(workers, 5.0)
    assert not lives(workers, 7.0)


def test_while_we_are_deaf_two_missing_answers_are_not_believed() -> None:
    """A heartbeat that we could not hear has not stopped; three answers in a row that did not come are death all the same."""
    workers = Workers()
    beat(workers, 0.0)
    workers.asked([W], [W], 1.0)
    workers.asked([W], [], 20.0)
    workers.asked([W], [], 25.0)
    assert lives(workers, 25.0, hearing_since=None)
    workers.asked([W], [], 30.0)
    assert not lives(workers, 30.0, hearing_since=None)


def test_the_dead_stay_dead_while_we_are_deaf() -> None:
    """Knowing less brings nobody back (seen after a broker's restart: a killed worker was up for five seconds)."""
    workers = Workers()
    beat(workers, 0.0)
    workers.asked([W], [W], 1.0)
    workers.asked([W], [], 10.0)
    assert not lives(workers, 10.0)
    assert not lives(workers, 20.0, hearing_since=None)
    assert not lives(workers, 30.0, hearing_since=29.0)
    workers.asked([], [W], 31.0)
    assert lives(workers, 31.0, hearing_since=29.0)


def test_of_a_worker_without_heartbeats_two_missing_answers_are_death() -> None:
    """Its answers are all there is."""
    workers = Workers()
    workers.asked([], [W], 0.0)
    workers.asked([W], [], 15.0)
    assert lives(workers, 15.0)
    workers.asked([W], [], 20.0)
    assert not lives(workers, 20.0)


def test_who_hears_only_since_a_moment_ago_is_still_deaf_to_the_past() -> None:
    """After an outage every last heartbeat is old."""
    workers = Workers()
    beat(workers, 0.0)
    assert lives(workers, 1.0)
    assert lives(workers, 60.0, hearing_since=58.0)
    assert not lives(workers, 70.0, hearing_since=58.0)


def test_a_goodbye_counts_at_once_and_until_the_next_sign_of_life() -> None:
    """A worker that is told to end says so."""
    workers = Workers()
    beat(workers, 0.0)
    workers.asked([W], [W], 0.0)
    beat(workers, 1.0, sign=Sign.OFFLINE)
    assert not lives(workers, 1.0)
    beat(workers, 2.0, sign=Sign.ONLINE)
    assert lives(workers, 2.0)


def test_configured_workers_are_down_until_they_are_seen() -> None:
    """Nobody has to be heard of first to be missed."""
    workers = Workers([W])
    assert not lives(workers, 0.0)
    assert workers.awaited() == {W}


def test_who_is_down_is_not_waited_for() -> None:
    """A ping of the living takes as long as the living take."""
    workers = Workers()
    beat(workers, 0.0)
    beat(workers, 0.0, name="w2@h")
    assert workers.awaited() == {W, "w2@h"}
    beat(workers, 1.0, sign=Sign.OFFLINE)
    workers.lives(1.0, ALWAYS)
    assert workers.awaited() == {"w2@h"}


def test_a_heartbeat_that_stopped_asks_for_a_look_once() -> None:
    """What the look finds settles it, whether or not there was an answer; one that got none before does not."""
    workers = Workers()
    beat(workers, 0.0)
    workers.asked([W], [], 1.0)
    assert not workers.gone_silent(6.0)
    assert workers.gone_silent(6.5)
    workers.asked([W], [W], 7.0)
    assert not workers.gone_silent(8.0)
    beat(workers, 9.0)
    assert workers.gone_silent(16.0)
    workers.asked([W], [], 16.0)
    assert not workers.gone_silent(17.0)


def test_a_slow_heart_has_time() -> None:
    """A worker says how often it beats; three beats missing are silence."""
    workers = Workers()
    workers.heard(WorkerEvent(Sign.HEARTBEAT, W, 10.0), 0.0)
    assert lives(workers, 30.0)
    assert not lives(workers, 30.5)


def test_only_a_worker_of_one_queue_tells_where_a_task_came_from() -> None:
    """Two queues are a guess, and a guess is not a label."""
    workers = Workers()
    workers.consumes(W, ("celery",), 0.0)
    workers.consumes("w2@h", ("a", "b"), 0.0)
    assert [workers.queue_of(name) for name in (W, "w2@h", "w3@h")] == ["celery", None, None]


def test_a_stranger_is_asked_a_few_times() -> None:
    """A worker says that it is online before it listens to questions; and one without remote control never will."""
    workers = Workers()
    beat(workers, 0.0, sign=Sign.ONLINE)
    asked = [workers.strangers() for _ in range(MOST_QUESTIONS + 2)]
    assert asked == [{W}] * MOST_QUESTIONS + [set()] * 2
    beat(workers, 1.0, sign=Sign.ONLINE)
    assert workers.strangers() == {W}
    workers.consumes(W, ("celery",), 2.0)
    assert workers.strangers() == set()


def test_task_events_are_off_where_tasks_are_accepted_and_none_is_told() -> None:
    """A heartbeat counts accepted tasks whether or not they are told; before one has run nothing is known."""
    workers = Workers()
    beat(workers, 0.0, processed=7)
    workers.lives(0.0, ALWAYS)
    assert workers.unheard(0.0) == {W: False}
    beat(workers, 2.0, processed=8)
    assert workers.unheard(6.0) == {W: False}
    beat(workers, 8.0, processed=8)
    assert workers.unheard(8.0) == {W: True}
    workers.heard_task(W, 9.0)
    assert workers.unheard(9.0) == {}


def test_task_events_that_come_before_the_heartbeat_are_on() -> None:
    """The heartbeat that counts the tasks comes after their events, or between them: neither is silence."""
    workers = Workers()
    beat(workers, 0.0, processed=0)
    workers.heard_task(W, 1.0)
    beat(workers, 2.0, processed=1)
    beat(workers, 8.0, processed=1)
    workers.lives(8.0, ALWAYS)
    assert workers.unheard(8.0) == {}


def test_the_dead_are_kept_for_an_hour_and_bounded() -> None:
    """A series must stay to be alerted on; names of pods must not stay for ever."""
    workers = Workers()
    for number in range(MOST_WORKERS + 10):
        beat(workers, float(number), name=f"w{number}@h")
    assert len(workers.lives(1000.0, ALWAYS)) == MOST_WORKERS
    assert "w0@h" not in workers.lives(1000.0, ALWAYS)
    assert len(workers.lives(1000.0 + FORGET_SECONDS, ALWAYS)) == 0
