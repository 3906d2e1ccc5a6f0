"""The framing guard: what is whole passes as it is, however it was cut; what is no RESP, or too much, never does."""

import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.drivers.redis.framing import ANSWER_BYTES, MOST_LEVELS, MOST_VALUES, Framing, Misframed
from tests.faults import TEN_ZEROS, garbage

REPLIES = (
    b"+PONG\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b":42\r\n",
    b"$5\r\nhe\r\no\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n$1\r\na\r\n*1\r\n:-1\r\n",
    b"%1\r\n+proto\r\n:3\r\n",
    b"~1\r\n_\r\n",
    b"=8\r\ntxt:word\r\n",
    b"!5\r\nERR x\r\n",
    b",1.5e3\r\n",
    b",-inf\r\n",
    b"#t\r\n",
    b"(123456789012345678901234567890\r\n",
)
PUSH = b">3\r\n+message\r\n+channel\r\n$2\r\nhi\r\n"


@given(st.lists(st.sampled_from([*REPLIES, PUSH]), max_size=6), st.lists(st.integers(0, 200), max_size=8))
def test_whole_replies_pass_unchanged_wherever_they_were_cut(replies: list[bytes], cuts: list[int]) -> None:
    """TCP knows no replies: a packet may end anywhere."""
    stream = b"".join(replies)
    framing, passed, position = Framing(), b"", 0
    for cut in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        passed += framing.whole(stream[position:cut])
        position = cut
    assert passed == stream
    assert framing.answers == sum(reply != PUSH for reply in replies)


@pytest.mark.parametrize("reply", [reply for reply in REPLIES if len(reply) > 4])
def test_nothing_passes_before_a_reply_is_whole(reply: bytes) -> None:
    """redis-py's parser never waits in the middle of one."""
    framing = Framing()
    assert [framing.whole(reply[index : index + 1]) for index in range(len(reply) - 1)] == [b""] * (len(reply) - 1)
    assert framing.whole(reply[-1:]) == reply


@pytest.mark.parametrize(
    "data",
    [
        TEN_ZEROS,
        TEN_ZEROS + garbage(1),
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"*1.5\r\n",
        b":12a\r\n",
        b":" + b"9" * 5000 + b"\r\n",
        b"$3\r\nabcd\r\n",
        b"*1\r\n?\r\n",
        b"*?\r\n",
        b",1_0\r\n",
        b"#x\r\n",
        b"_x\r\n",
        b"+a\rb\r\n",
        b"+" + b"a" * 20_000,
        b"$" + b"1" * 600,
    ],
)
def test_what_is_no_resp_is_refused_at_once(data: bytes) -> None:
    """A driver that waited for the rest would wait until the deadline, and tell the wrong reason."""
    with pytest.raises(Misframed):
        Framing().whole(data)


@pytest.mark.parametrize("seed", range(50))
def test_garbage_is_refused_or_held_back(seed: int) -> None:
    """Random bytes are no reply; a few begin like one."""
    passed = b""
    with suppress(Misframed):
        passed = Framing().whole(garbage(seed, 2000))
    assert len(passed) < 10


@pytest.mark.parametrize(
    "data",
    [
        b"$%d\r\n" % (ANSWER_BYTES + 1),
        b"$9999999999\r\n",
        b"*1\r\n" * (MOST_LEVELS + 1),
        b"*%d\r\n" % (2 * MOST_VALUES) + b"_\r\n" * (MOST_VALUES + 1),
    ],
)
def test_a_reply_beyond_all_measure_is_refused(data: bytes) -> None:
    """A length, a depth and a number are cheap to say and dear to believe."""
    with pytest.raises(Misframed, match=r"a reply above 4 MiB, 100000 values or 16 levels"):
        Framing().whole(data)


def test_a_flood_that_never_becomes_a_reply_is_bounded() -> None:
    """The promise of an array of strings, delivered piece by piece without end."""
    framing, piece = Framing(), b"$60000\r\n" + b"x" * 60_000 + b"\r\n"
    tracemalloc.start()
    try:
        with pytest.raises(Misframed):
            _pour(framing, piece)
        assert tracemalloc.get_traced_memory()[1] < 4 * ANSWER_BYTES
    finally:
        tracemalloc.stop()


def _pour(framing: Framing, piece: bytes) -> None:
    framing.whole(b"*99999\r\n")
    for _ in range(1000):
        framing.whole(piece)
