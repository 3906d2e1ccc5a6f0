"""Celery's wire format, as its workers speak it: commands and answers of remote control, events, Redis' envelope, key names.

Pure: bytes in, values out. Only JSON is ever decoded, so nothing that a broker holds can run here; what is too large or is no
event is a `Rejection`, never an exception that could end a listener. Celery and kombu are not imported: their clients block
and unpickle. Verified against workers of Celery 5.2 and 5.7; borrowed facts name their source.
"""

import json
import math
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from exporter.secret import one_line

EVENT_EXCHANGE = "celeryev"  # celery/events/event.py, EVENT_EXCHANGE_NAME; topic, durable
CONTROL_EXCHANGE = "celery.pidbox"  # celery/app/control.py, Mailbox("celery", type="fanout"); kombu/pidbox.py, exchange_fmt

PRIORITY_SEPARATOR = "\x06\x16"  # kombu/transport/redis.py, Channel.sep
PRIORITY_STEPS = (3, 6, 9)  # kombu/transport/redis.py, PRIORITY_STEPS; 0 has the queue's bare name

CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"
LARGEST_BYTES = 1024 * 1024
"""The largest message that is decoded. Events stay near 1.4 kB each, whatever a task's arguments; a batch holds some dozens."""
LONGEST_TEXT = 120
"""The most characters of a name that comes from a target."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Rejection(StrEnum):
    """Why a message, or one event of a batch, was not taken: a closed set, a label value."""

    CONTENT_TYPE = "content_type"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_AN_EVENT = "not_an_event"


class Rejected(Exception):
    """A message that is not taken."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.value)
        self.rejection = rejection


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came: nothing in it has been decoded. `headers` are those of AMQP, or of Redis' envelope."""

    body: bytes
    content_type: str = CONTENT_TYPE
    content_encoding: str = CONTENT_ENCODING
    headers: Mapping[str, object] = field(default_factory=dict)


def decoded(message: Message) -> Json:
    """The value of a JSON message.

    Raises:
        Rejected: it is anything else, or too large.
    """
    if message.content_type != CONTENT_TYPE:
        raise Rejected(Rejection.CONTENT_TYPE)
    return _json(message.body)


def _json(body: bytes | str) -> Json:
    if len(body) > LARGEST_BYTES:
        raise Rejected(Rejection.TOO_LARGE)
    try:
        return cast("Json", json.loads(body))
    except (ValueError, RecursionError):  # ValueError: also bytes that are no UTF-8, and a number of 5000 digits
        raise Rejected(Rejection.NOT_JSON) from None


# --- remote control ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where workers send their answers: a routing key of AMQP's default exchange, or a Redis list."""

    routing_key: str
    exchange: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of remote control. `ticket` comes back with every answer; without `destination` it is for all workers."""

    method: str
    ticket: str
    destination: tuple[str, ...] | None = None

    def body(self, reply_to: ReplyTo) -> bytes:
        """As kombu/pidbox.py, Mailbox._publish, makes it."""
        return json.dumps(
            {
                "method": self.method,
                "arguments": {},
                "destination": None if self.destination is None else list(self.destination),
                "pattern": None,
                "matcher": None,
                "ticket": self.ticket,
                "reply_to": {"exchange": reply_to.exchange, "routing_key": reply_to.routing_key},
            }
        ).encode()


COMMAND_HEADERS: Mapping[str, int] = {"clock": 1}
"""A logical clock that moves no worker's (kombu/pidbox.py, Node.handle_message). The header `expires` is not looked at there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one worker answered to the command with that ticket; `value` is None where it is not a JSON object or list."""

    hostname: str
    ticket: str | None
    value: Json


def answer_in(message: Message) -> Answer:
    """The one worker's answer in a message: `{"w1@host": value}`, with the ticket among its headers.

    Raises:
        Rejected: it is no answer.
    """
    value = decoded(message)
    if not isinstance(value, dict) or len(value) != 1:
        raise Rejected(Rejection.NOT_AN_EVENT)
    ((hostname, said),) = value.items()
    ticket = message.headers.get("ticket")
    return Answer(one_line(hostname, LONGEST_TEXT), ticket if isinstance(ticket, str) else None, said)


def queues_in(value: Json) -> tuple[str, ...]:
    """The names in an answer to `active_queues`; empty for a worker that consumes nothing, or said something else."""
    rows = value if isinstance(value, list) else []
    names = (row.get("name") for row in rows if isinstance(row, dict))
    return tuple(one_line(name, LONGEST_TEXT) for name in names if isinstance(name, str))


# --- events -----------------------------------------------------------------------------------------------------------


class State(StrEnum):
    """What has become of a task: the closed set of the label `state`."""

    SENT = "sent"
    RECEIVED = "received"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    REVOKED = "revoked"
    REJECTED = "rejected"


class Sign(StrEnum):
    """A sign of life, or of its end, that a worker gives."""

    ONLINE = "online"
    HEARTBEAT = "heartbeat"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One step of one task. `timestamp` is the sender's clock, Unix seconds; `runtime_seconds` comes with success alone.

    `name` comes with sent and received, `queue` with sent; `hostname` is the worker's, or the client's that sent it.
    """

    state: State
    uuid: str
    hostname: str
    timestamp: float | None = None
    name: str | None = None
    queue: str | None = None
    runtime_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """A worker's own event. `freq_seconds` is how often it promises to beat, `processed` how many tasks it has accepted."""

    sign: Sign
    hostname: str
    freq_seconds: float | None = None
    processed: int | None = None


Event = TaskEvent | WorkerEvent

_STATES = {f"task-{state}": state for state in State}
_SIGNS = {f"worker-{sign}": sign for sign in Sign}


def events_in(message: Message) -> tuple[list[Event], list[Rejection]]:
    """The events of a message, a single one or a batch (`task.multi`), in their order, and why the others were not taken.

    Events of a kind that is not known, such as an application's own, are neither: they are passed over.
    """
    try:
        value = decoded(message)
    except Rejected as rejected:
        return [], [rejected.rejection]
    events: list[Event] = []
    rejections: list[Rejection] = []
    for item in value if isinstance(value, list) else [value]:
        try:
            event = _event(item)
        except Rejected as rejected:
            rejections.append(rejected.rejection)
        else:
            events += [event] if event is not None else []
    return events, rejections


def _event(value: Json) -> Event | None:
    fields = value if isinstance(value, dict) else {}
    kind, hostname = fields.get("type"), fields.get("hostname")
    if not isinstance(kind, str) or not isinstance(hostname, str):
        raise Rejected(Rejection.NOT_AN_EVENT)
    sender = one_line(hostname, LONGEST_TEXT)
    if kind in _STATES:
        return _task_event(_STATES[kind], sender, fields)
    if kind in _SIGNS:
        processed = fields.get("processed")
        count = processed if isinstance(processed, int) and not isinstance(processed, bool) else None
        return WorkerEvent(_SIGNS[kind], sender, _number(fields.get("freq")), count)
    return None


def _task_event(state: State, hostname: str, fields: dict[str, Json]) -> TaskEvent:
    uuid = fields.get("uuid")
    if not isinstance(uuid, str):
        raise Rejected(Rejection.NOT_AN_EVENT)
    return TaskEvent(
        state,
        uuid[:LONGEST_TEXT],
        hostname,
        timestamp=_number(fields.get("timestamp")),
        name=_text(fields.get("name")),
        queue=_text(fields.get("queue")),
        runtime_seconds=_number(fields.get("runtime")),
    )


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: Json) -> str | None:
    return one_line(value, LONGEST_TEXT) or None if isinstance(value, str) else None


# --- Redis ------------------------------------------------------------------------------------------------------------


def event_pattern(db: int) -> str:
    """The channels of all events: kombu publishes `celeryev` with the database before it and the routing key behind it.

    That is its default (fanout_prefix and fanout_patterns, kombu/transport/redis.py, Channel._get_publish_topic).
    """
    return f"/{db}.{EVENT_EXCHANGE}/*"


def control_channel(db: int) -> str:
    """The channel on which all workers hear commands: a fanout exchange has no routing key."""
    return f"/{db}.{CONTROL_EXCHANGE}"


def priority_keys(queue: str) -> tuple[str, ...]:
    """The lists that make up a queue, one for each step of priority, the bare name first."""
    return (queue, *(f"{queue}{PRIORITY_SEPARATOR}{step}" for step in PRIORITY_STEPS))


def wrapped(body: bytes, tag: str) -> bytes:
    """A command in the envelope that kombu's virtual transports put around it; `tag` is unique."""
    return json.dumps(
        {
            "body": b64encode(body).decode(),
            "content-type": CONTENT_TYPE,
            "content-encoding": CONTENT_ENCODING,
            "headers": dict(COMMAND_HEADERS),
            "properties": {
                "body_encoding": "base64",
                "delivery_mode": 1,
                "delivery_info": {"exchange": CONTROL_EXCHANGE, "routing_key": ""},
                "priority": 0,
                "delivery_tag": tag,
            },
        }
    ).encode()


def unwrapped(payload: bytes) -> Message:
    """The message inside an envelope.

    Raises:
        Rejected: it is no envelope, or too large.
    """
    envelope = _json(payload)
    if not isinstance(envelope, dict):
        raise Rejected(Rejection.NOT_AN_EVENT)
    body, headers, properties = envelope.get("body"), envelope.get("headers"), envelope.get("properties")
    if not isinstance(body, str):
        raise Rejected(Rejection.NOT_AN_EVENT)
    encoding = properties.get("body_encoding") if isinstance(properties, dict) else None
    return Message(
        _plain(body, encoding),
        content_type=str(envelope.get("content-type")),
        content_encoding=str(envelope.get("content-encoding")),
        headers=headers if isinstance(headers, dict) else {},
    )


def _plain(body: str, encoding: Json) -> bytes:
    if encoding != "base64":
        return body.encode(errors="replace")
    try:
        return b64decode(body, validate=True)
    except (NotBase64, ValueError):
        raise Rejected(Rejection.NOT_AN_EVENT) from None


def first_of(names: Iterable[str], most: int) -> str:
    """The names, at most `most` of them, for a message: `a, b and 3 more`."""
    listed = sorted(names)
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
