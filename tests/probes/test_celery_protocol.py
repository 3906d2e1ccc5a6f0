"""Celery's wire format: what we say is what kombu would say, and nothing that is said to us can hurt."""

import json
import pickle
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.redis import PRIORITY_STEPS as KOMBU_STEPS
from kombu.transport.redis import Channel

from exporter.probes.celery.protocol import (
    LARGEST_BYTES,
    LONGEST_TEXT,
    PRIORITY_SEPARATOR,
    PRIORITY_STEPS,
    Answer,
    Command,
    Message,
    Rejected,
    Rejection,
    ReplyTo,
    Sign,
    State,
    TaskEvent,
    WorkerEvent,
    answer_in,
    control_channel,
    decoded,
    event_pattern,
    events_in,
    first_of,
    priority_keys,
    queues_in,
    unwrapped,
    wrapped,
)

HEARTBEAT = {
    "type": "worker-heartbeat",
    "hostname": "w1@here",
    "utcoffset": 0,
    "pid": 7,
    "clock": 12,
    "freq": 2.0,
    "active": 0,
    "processed": 3,
    "loadavg": [0.1, 0.2, 0.3],
    "sw_ident": "py-celery",
    "timestamp": 1764000000.5,
}
RECEIVED = {
    "type": "task-received",
    "uuid": "u1",
    "name": "shop.add",
    "args": "(1, 2)",
    "kwargs": "{}",
    "hostname": "w1@here",
    "timestamp": 1.0,
}


def message(value: object) -> Message:
    return Message(json.dumps(value).encode())


def test_a_command_is_what_kombu_makes_of_it() -> None:
    """Workers of 5.2 and 5.7 answered exactly this."""
    body = Command("ping", "t1", ("w1@here",)).body(ReplyTo("exporter.default.reply"))
    assert json.loads(body) == {
        "method": "ping",
        "arguments": {},
        "destination": ["w1@here"],
        "pattern": None,
        "matcher": None,
        "ticket": "t1",
        "reply_to": {"exchange": "", "routing_key": "exporter.default.reply"},
    }


def test_the_envelope_of_redis_comes_apart_again() -> None:
    """Workers take the same envelope apart by kombu's code."""
    body = Command("ping", "t1").body(ReplyTo("r"))
    assert unwrapped(wrapped(body, "tag")).body == body
    assert unwrapped(wrapped(body, "tag")).content_type == "application/json"


def test_the_names_in_redis_are_kombus() -> None:
    """They are an agreement between programs that do not share code: kombu's own is asked here."""
    assert (0, *PRIORITY_STEPS) == tuple(KOMBU_STEPS)
    assert Channel.sep == PRIORITY_SEPARATOR
    prefix = Channel.keyprefix_fanout.format(db=3)
    assert control_channel(3) == f"{prefix}celery.pidbox"
    assert event_pattern(3) == f"{prefix}celeryev/*"
    assert priority_keys("q") == ("q", "q\x06\x163", "q\x06\x166", "q\x06\x169")


def test_an_answer_has_its_worker_and_its_ticket() -> None:
    """The ticket tells it from a late answer to another question."""
    said = Message(b'{"w1@here": {"ok": "pong"}}', headers={"ticket": "t1", "clock": 3})
    assert answer_in(said) == Answer("w1@here", "t1", {"ok": "pong"})


def test_queues_are_read_from_an_answer_to_active_queues() -> None:
    """Anything else is no queue: an error of the worker, an old or odd one."""
    assert queues_in([{"name": "celery", "max_priority": None}, {"name": "slow"}, {"nom": 1}, 3]) == ("celery", "slow")
    assert queues_in({"error": "boom"}) == ()


def test_events_are_read() -> None:
    """One alone, or a batch as newer workers send them, in their order."""
    beat = WorkerEvent(Sign.HEARTBEAT, "w1@here", 2.0, 3)
    received = TaskEvent(State.RECEIVED, "u1", "w1@here", 1.0, "shop.add")
    assert events_in(message(HEARTBEAT)) == ([beat], [])
    assert events_in(message([RECEIVED, HEARTBEAT])) == ([received, beat], [])


def test_events_of_an_application_of_its_own_are_passed_over() -> None:
    """They are neither tasks nor wrong."""
    assert events_in(message({"type": "price-updated", "hostname": "w1@here"})) == ([], [])


@pytest.mark.parametrize(
    ("hostile", "rejection"),
    [
        (Message(pickle.dumps(print), "application/x-python-serialize"), Rejection.CONTENT_TYPE),
        (Message(pickle.dumps(print)), Rejection.NOT_JSON),
        (Message(b"!!python/object", "application/x-yaml"), Rejection.CONTENT_TYPE),
        (Message(b"{}", ""), Rejection.CONTENT_TYPE),
        (Message(b"{"), Rejection.NOT_JSON),
        (Message(b"\xff\xfe"), Rejection.NOT_JSON),
        (Message(b"[" * 100_000), Rejection.NOT_JSON),
        (Message(b"9" * 5000), Rejection.NOT_JSON),
        (Message(b'"' + b"x" * LARGEST_BYTES + b'"'), Rejection.TOO_LARGE),
        (message(3), Rejection.NOT_AN_EVENT),
        (message({}), Rejection.NOT_AN_EVENT),
        (message({"type": 3, "hostname": "w"}), Rejection.NOT_AN_EVENT),
        (message({"type": "task-started", "hostname": "w"}), Rejection.NOT_AN_EVENT),
        (message({"type": "task-started", "uuid": {}, "hostname": "w"}), Rejection.NOT_AN_EVENT),
        (message({"type": "worker-heartbeat", "hostname": None}), Rejection.NOT_AN_EVENT),
    ],
)
def test_what_is_no_event_is_told_by_reason_and_opens_nothing(hostile: Message, rejection: Rejection) -> None:
    """One bad message ends other listeners for good; and a pickle would run what it holds."""
    assert events_in(hostile) == ([], [rejection])


def test_a_bad_event_in_a_batch_costs_no_other() -> None:
    """A batch is counted event by event."""
    events, rejections = events_in(message([RECEIVED, 3, RECEIVED]))
    assert (len(events), rejections) == (2, [Rejection.NOT_AN_EVENT])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_told(body: bytes) -> None:
    """Whatever anybody publishes, the reader lives."""
    events_in(Message(body))
    try:
        events_in(unwrapped(body))
    except Rejected:
        return


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_any_value_in_any_field_is_read_or_told(value: object) -> None:
    """Odd workers exist: a string for a timestamp, a list for a name."""
    for event in (RECEIVED, HEARTBEAT):
        for field in event:
            events_in(message({**event, field: value}))
    for field in ("body", "content-type", "content-encoding", "headers", "properties"):
        envelope = {**json.loads(wrapped(b"{}", "t")), field: value}
        try:
            answer_in(unwrapped(json.dumps(envelope).encode()))
        except Rejected:
            continue


def test_names_are_cut_and_on_one_line() -> None:
    """They become labels and stand in messages."""
    events, _ = events_in(message({**RECEIVED, "name": "x\n" + "y" * 500, "hostname": "w\x00@h"}))
    (event,) = events
    assert isinstance(event, TaskEvent)
    assert (event.name, event.hostname) == ("x " + "y" * (LONGEST_TEXT - 3) + "…", "w @h")


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity", "1" + "0" * 400, "true", '"3"'])
def test_a_number_that_is_none_is_absent(number: str) -> None:
    """It would be a sum that is never a number again."""
    body = b'{"type": "task-succeeded", "uuid": "u", "hostname": "w", "runtime": %s}' % number.encode()
    (event,) = events_in(Message(body))[0]
    assert isinstance(event, TaskEvent)
    assert event.runtime_seconds is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'{"body": 3}',
        b'{"body": "%%%", "properties": {"body_encoding": "base64"}}',
        b'{"body": "' + b64encode(b"x" * LARGEST_BYTES) + b'"}',
    ],
)
def test_what_is_no_envelope_is_told(payload: bytes) -> None:
    """Anybody can publish anything on a channel."""
    with pytest.raises(Rejected):
        unwrapped(payload)


def test_a_body_without_encoding_is_taken_as_it_is() -> None:
    """kombu knows envelopes without base64 too."""
    assert decoded(unwrapped(b'{"body": "{\\"a\\": 1}", "content-type": "application/json", "properties": {}}')) == {"a": 1}


def test_many_names_are_cut_for_a_message() -> None:
    """A message has two hundred characters."""
    assert first_of(["b", "a"], 3) == "a, b"
    assert first_of("edcba", 2) == "a, b and 3 more"
