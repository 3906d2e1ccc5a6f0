"""Decompressing and searching a body, within bounds."""

import gzip
import re
import signal
import threading
import time
import zlib

import pytest

from exporter.drivers.http import BODY_LIMIT_BYTES, Answer
from exporter.probes.http.body import Body, SearchTooSlow, compiled, read_body


def answer(body: bytes, coding: str = "", *, complete: bool = True, charset: str | None = None) -> Answer:
    """An answer that was read."""
    return Answer("GET app:80/", 200, "1.1", body, complete, authorized=False, content_encoding=coding, charset=charset)


def test_a_plain_body_is_read_as_it_is() -> None:
    """Its length is in bytes, not in characters."""
    assert read_body(answer("née".encode())) == Body("née", 4)


def _raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(b"hello")),
        ("x-gzip", gzip.compress(b"hello")),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", _raw_deflate(b"hello")),
        ("identity", b"hello"),
    ],
    ids=["gzip", "x-gzip", "deflate", "raw deflate", "identity"],  # gzip's bytes hold the time, and workers must agree on names
)
def test_compressed_bodies_are_decompressed(coding: str, data: bytes) -> None:
    """RFC 9110, section 8.4.1, and the raw deflate that some servers send under the same name."""
    assert read_body(answer(data, coding)) == Body("hello", 5)


def test_a_decompression_bomb_is_cut_off() -> None:
    """One MiB that stands for a gibibyte must cost neither its memory nor its time."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    started = time.process_time()
    body = read_body(answer(bomb, "gzip"))
    assert body.text is not None
    assert len(body.text) == BODY_LIMIT_BYTES
    assert body.length is None
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("coding", "data"), [("br", b"hello"), ("gzip", b"hello"), ("gzip, br", b"hello"), ("deflate", b"\xff\xff")]
)
def test_what_cannot_be_decoded_is_no_text(coding: str, data: bytes) -> None:
    """Searching the compressed bytes would be wrong, and a length of it a lie."""
    assert read_body(answer(data, coding)) == Body(None, None)


def test_an_incomplete_body_has_no_length() -> None:
    """What was not read to its end, compressed or not, is not measured."""
    assert read_body(answer(b"hello", complete=False)) == Body("hello", None)
    assert read_body(answer(gzip.compress(b"hello")[:-4], "gzip")).length is None


@pytest.mark.parametrize(("charset", "data"), [("latin-1", b"n\xe9e"), ("no-such-charset", b"n\xc3\xa9e"), (None, b"n\xc3\xa9e")])
def test_the_charset_is_honoured(charset: str | None, data: bytes) -> None:
    """A pattern is written in characters; a charset that nobody knows is read as UTF-8."""
    assert read_body(answer(data, charset=charset)).text == "née"


def test_bytes_that_are_no_text_are_replaced() -> None:
    """A picture has no regex to match, and must not raise."""
    assert read_body(answer(b"\xff\xfeok")).text == "��ok"


def test_searching() -> None:
    """Anywhere in the text."""
    assert Body("status: ok", 10).contains(re.compile("ok$"))
    assert not Body("status: ok", 10).contains(re.compile("^ok"))


@pytest.mark.parametrize(
    ("pattern", "shorter"),
    [
        (".*ok.*", "ok.*"),
        (".*.*ok", "ok"),
        ("ok", "ok"),
        (".*", ".*"),
        (".*?ok", ".*?ok"),
        (".*+ok", ".*+ok"),
        (".*a|b", ".*a|b"),
        ("^.*ok", "^.*ok"),
    ],
)
def test_a_leading_wildcard_is_left_out(pattern: str, shorter: str) -> None:
    """Patterns for blackbox's linear engine begin with it; here it would make a search quadratic."""
    assert compiled(pattern).pattern == shorter
    for text in ("ok", "not\nok\n", "a", "b", ""):
        assert bool(compiled(pattern).search(text)) == bool(re.search(pattern, text))


def test_a_leading_wildcard_costs_nothing() -> None:
    """A MiB of minified JSON is one line."""
    assert not Body("y" * BODY_LIMIT_BYTES, None).contains(compiled(".*error.*"))


@pytest.mark.parametrize(("pattern", "text"), [("(a+)+$", "a" * 50 + "!"), ("[^x]*x", "y" * 100_000)])
def test_a_pattern_that_backtracks_for_ever_is_given_up(pattern: str, text: str) -> None:
    """`re` holds the interpreter's lock: without an end to it a body could stop the whole process."""
    started = time.monotonic()
    with pytest.raises(SearchTooSlow):
        Body(text, None).contains(re.compile(pattern))
    assert time.monotonic() - started < 5
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_a_late_signal_harms_nothing() -> None:
    """Its default action would end the process."""
    assert Body("ok", 2).contains(re.compile("ok"))
    signal.raise_signal(signal.SIGVTALRM)


def test_searching_in_another_thread() -> None:
    """Signals are the main thread's alone; there is no limit elsewhere, but there is an answer."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(Body("ok", 2).contains(re.compile("ok"))))
    thread.start()
    thread.join(5)
    assert found == [True]
