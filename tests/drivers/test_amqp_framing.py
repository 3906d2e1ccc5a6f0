"""What passes to aiormq's parser, and what is heard while it passes; on bytes alone."""

import struct

import pytest
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import FrameTypes, marshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from exporter.drivers.amqp.errors import Refusal, Stage
from exporter.drivers.amqp.framing import FRAME_BYTES, GREETING_BYTES, MESSAGE_BYTES, Frames
from exporter.errors import ProbeError
from exporter.model import Reason
from tests.faults import TEN_ZEROS, garbage

PLACE = "127.0.0.1:5672"
START = commands.Connection.Start(server_properties={"product": "RabbitMQ"})
TUNE = commands.Connection.Tune(channel_max=2047, frame_max=131072, heartbeat=60)
OPEN_OK = commands.Connection.OpenOk()
GREETING = (START, TUNE, OPEN_OK)


def frame(content: FrameTypes, channel: int = 0) -> bytes:
    return marshal(content, channel)


def raw(kind: int, channel: int, size: int) -> bytes:
    """The seven bytes that begin a frame."""
    return struct.pack("!BHI", kind, channel, size)


def after(*greeting: FrameTypes) -> Frames:
    frames = Frames(PLACE)
    for content in greeting:
        frames.feed(frame(content))
    return frames


def refusal(frames: Frames, data: bytes) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        frames.feed(data)
    assert frames.garbled is caught.value
    assert PLACE in caught.value.message
    return caught.value


def test_whole_frames_pass_unchanged_however_they_are_cut() -> None:
    """TCP cuts where it likes; what comes out is what went in, and nothing in pieces."""
    message = frame(ContentHeader(body_size=3), 1) + frame(ContentBody(b"abc"), 1)
    stream = b"".join(map(frame, GREETING)) + message + frame(Heartbeat())
    for size in (1, 2, 7, 8, 100, len(stream)):
        frames = Frames(PLACE)
        passed = [frames.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
        assert b"".join(passed) == stream
        assert all(not part or part.endswith(b"\xce") for part in passed)


def test_a_greeting_is_followed_step_by_step() -> None:
    """What a refusal means depends on how far the login has come."""
    assert [after(*GREETING[:steps]).stage for steps in range(4)] == list(Stage)


@pytest.mark.parametrize("data", [TEN_ZEROS, bytes(16), b"HTTP/1.1 400 Bad Request\r\n", b"-ERR unknown\r\n", b"\xff"])
def test_bytes_that_are_no_frame_are_refused_at_once(data: bytes) -> None:
    """Sixteen zeros would otherwise read like a virtual host that is forbidden."""
    assert refusal(Frames(PLACE), data).reason is Reason.PROTOCOL


def test_two_hundred_kinds_of_garbage_never_pass() -> None:
    """Random bytes are the cheapest hostile server; not one of them may reach the parser."""
    for seed in range(200):
        assert refusal(Frames(PLACE), garbage(seed)).reason is Reason.PROTOCOL


def test_garbage_in_well_formed_frames_is_refused_after_the_login_too() -> None:
    """A frame that says how long it is must also end where it says."""
    assert "without its end" in refusal(after(*GREETING), raw(1, 1, 4) + b"\x00" * 5).message


@pytest.mark.parametrize(
    ("data", "greeted"),
    [
        (raw(1, 0, GREETING_BYTES + 1), False),
        (raw(1, 0, 2**32 - 1), True),
        (raw(1, 1, FRAME_BYTES + 1), True),
        (raw(2, 1, 2**31), True),
        (raw(3, 1, 131072 + 1), True),
        (raw(8, 0, 1), True),
        (raw(1, 0, 3), True),
    ],
)
def test_a_frame_of_impossible_length_is_refused_by_its_first_bytes(data: bytes, greeted: bool) -> None:
    """aiormq would wait for four gigabytes."""
    assert refusal(after(*GREETING) if greeted else Frames(PLACE), data).reason is Reason.PROTOCOL


def test_a_message_that_would_fill_memory_is_refused_by_its_header() -> None:
    """Its pieces are small; only the header says how many will come."""
    frames = after(*GREETING)
    frames.feed(frame(ContentHeader(body_size=MESSAGE_BYTES), 1))
    assert "more than 32 MiB" in refusal(frames, frame(ContentHeader(body_size=MESSAGE_BYTES + 1), 1)).message


def test_pieces_of_a_message_may_be_as_long_as_the_broker_said() -> None:
    """An administrator can raise frame_max; zero means no limit."""
    for frame_max in (1024 * 1024, 0):
        frames = after(START, commands.Connection.Tune(channel_max=0, frame_max=frame_max, heartbeat=0), OPEN_OK)
        assert frames.feed(raw(3, 1, 1024 * 1024)) == b""


@pytest.mark.parametrize(
    ("before", "unexpected"),
    [((), OPEN_OK), ((), TUNE), ((START,), OPEN_OK), ((START, TUNE), START), ((START,), Heartbeat())],
)
def test_a_greeting_out_of_order_is_refused(before: tuple[FrameTypes, ...], unexpected: FrameTypes) -> None:
    """A server that is let in without a login is none of RabbitMQ's."""
    assert refusal(after(*before), frame(unexpected)).reason is Reason.PROTOCOL


def test_an_older_amqp_and_tls_are_named() -> None:
    """Both are common mistakes, and each has its own cure."""
    assert "another version of AMQP" in refusal(Frames(PLACE), b"AMQP\x00\x01\x00\x00").message
    assert "write amqps://" in refusal(Frames(PLACE), b"\x15\x03\x03\x00\x02\x02\x16").message


def test_the_brokers_refusal_is_heard_with_its_stage() -> None:
    """aiormq has one error for a missing virtual host and for garbage."""
    frames = after(START, TUNE)
    frames.feed(frame(commands.Connection.Close(530, "NOT_ALLOWED - vhost nope not found", 10, 40)))
    assert (frames.stage, frames.refusal) == (Stage.OPENING, Refusal(530, "NOT_ALLOWED - vhost nope not found"))


def test_being_blocked_is_heard_until_it_is_over() -> None:
    """aiormq tells nobody."""
    frames = after(*GREETING)
    frames.feed(frame(commands.Connection.Blocked("low on memory")))
    assert frames.blocked == "low on memory"
    frames.feed(frame(commands.Connection.Unblocked()))
    assert frames.blocked is None


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [(b"\x02\x12", ""), (b"\x02\x12\xff", ""), (b"\x02\x12\x02\xff\xfe", "\ufffd\ufffd"), (b"", None), (b"\x01", None)],
)
def test_a_refusal_cut_short_is_no_crash(arguments: bytes, heard: str | None) -> None:
    """What a server says in a well-framed method may still be nonsense."""
    frames = after(START, TUNE)
    body = struct.pack("!HH", 10, 50) + arguments
    whole = raw(1, 0, len(body)) + body + b"\xce"
    if heard is None:
        assert refusal(frames, whole).reason is Reason.PROTOCOL
    else:
        frames.feed(whole)
        assert frames.refusal == Refusal(530, heard)
