"""What a log line says, and what it never says."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO

import pytest

from exporter.log import Format, about, configure
from exporter.model import Reason, Status
from exporter.secret import Redactor, Secret

CANARY = "c4n4ry"

Lines = Callable[..., StringIO]


@pytest.fixture
def logging_to() -> Iterator[Lines]:
    """`logging_to("json")` sends the log to the stream it returns, until the end of the test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions

    def begin(form: Format, *secrets: str, level: str = "info") -> StringIO:
        stream = StringIO()
        configure(form, level, Redactor(map(Secret, secrets)), stream)
        return stream

    yield begin
    root.handlers[:], level, logging.raiseExceptions = before
    root.setLevel(level)


log = logging.getLogger("exporter.schedule.changes")


def test_a_json_line_has_its_fields_and_no_others(logging_to: Lines) -> None:
    """Whoever collects the lines asks for `probe="db"` and `duration > 1`, and must not parse sentences."""
    stream = logging_to("json")
    fields = about("db", status=Status.UNHEALTHY, reason=Reason.REFUSED, duration_seconds=0.0031234567)
    log.warning("%s, %s: %s", Status.UNHEALTHY, Reason.REFUSED, "connect 10.0.0.7:5432", extra=fields)
    log.info("reads again", extra=about("db", "locks"))
    change, collector = map(json.loads, stream.getvalue().splitlines())
    assert change.pop("time").endswith("Z")
    assert change == {
        "level": "warning",
        "logger": "exporter.schedule.changes",
        "message": "unhealthy, refused: connect 10.0.0.7:5432",
        "probe": "db",
        "status": "unhealthy",
        "reason": "refused",
        "duration": 0.003123,
    }
    assert set(collector) == {"time", "level", "logger", "message", "probe", "collector"}


def test_a_text_line_begins_with_what_it_is_about(logging_to: Lines) -> None:
    """A person reads from the left; a probe may be called `token`, and its name is no assignment to be blanked."""
    stream = logging_to("text")
    log.warning("unhealthy, refused: it is down", extra=about("auth-token"))
    log.info("reads again", extra=about("db", "locks"))
    log.info("ended")
    assert [line.partition("Z ")[2] for line in stream.getvalue().splitlines()] == [
        "WARNING auth-token: unhealthy, refused: it is down",
        "INFO    db/locks: reads again",
        "INFO    ended",
    ]


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_told_by_its_class_and_place(logging_to: Lines, form: Format) -> None:
    """Its text may hold a row or a key, and a traceback the source; the place is what finds the bug."""
    stream = logging_to(form)
    try:
        raise ValueError(CANARY)
    except ValueError:
        log.exception("request to /metrics failed")
    assert "request to /metrics failed: ValueError at test_log_lines.py:" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_library_says_one_line_without_what_it_quotes(logging_to: Lines, form: Format) -> None:
    """asyncio adds the repr of the task and of what it raised, which may be a row."""
    stream = logging_to(form)

    async def main() -> None:
        error = ValueError(f"Key (mail)=('{CANARY}') exists")
        asyncio.get_running_loop().call_exception_handler({"message": "Task exception was never retrieved", "exception": error})

    asyncio.run(main())
    logging.getLogger("asyncpg.pool").error("cannot close %r", CANARY)
    logging.getLogger("aiohttp.web").error("Error handling request from %s", "10.0.0.9", exc_info=ValueError(CANARY))
    assert "Task exception was never retrieved: ValueError" in stream.getvalue()
    assert "cannot close …" in stream.getvalue()
    assert "Error handling request from 10.0.0.9: ValueError" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 3
    assert CANARY not in stream.getvalue()


def test_libraries_are_heard_from_warning_on(logging_to: Lines) -> None:
    """What they say below it may be every frame they send, the login too; our own words follow the level asked for."""
    stream = logging_to("text", level="debug")
    for name in ("aiormq.connection", "aio_pika.exchange", "asyncio", "redis", "aiohttp.client"):
        logging.getLogger(name).info("sending %s", CANARY)
    log.debug("ours")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["ours"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_is_one_line_and_bounded(logging_to: Lines, form: Format) -> None:
    """A server's message must neither forge a second line nor fill a disk."""
    stream = logging_to(form)
    log.error("said %s", "x\n2026-01-01 forged \x1b[31m" + "y" * 100_000)
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()
    assert len(stream.getvalue()) < 2200


def test_a_line_whose_arguments_do_not_fit_is_still_said(logging_to: Lines) -> None:
    """A slip in a rare branch must not swallow the only hint."""
    stream = logging_to("text")
    log.error("a %d", CANARY)
    assert stream.getvalue().endswith("a %d (its arguments do not fit)\n")


STRAY = """
import gc, logging, threading, warnings
from exporter.log import catch_strays, configure
from exporter.secret import Redactor, Secret

configure("json", "info", Redactor([Secret("known-secret")]))
catch_strays()

def fall():
    raise ValueError("c4n4ry")

class Falling:
    def __del__(self):
        raise ValueError("c4n4ry")

thread = threading.Thread(target=fall, name="gzip")
thread.start()
thread.join()
Falling()
gc.collect()
warnings.warn("old: known-secret")
"""


def test_what_python_would_print_itself_is_a_line_like_any_other() -> None:
    """Exceptions of threads and finalisers, with their text, and warnings go to the terminal past every handler."""
    result = subprocess.run([sys.executable, "-c", STRAY], capture_output=True, text=True, timeout=30)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert [line["message"].partition(" at ")[0] for line in lines] == [
        "thread gzip ended unexpectedly; please report it: ValueError",
        "raised where nobody could catch it; please report it: ValueError",
        "<string>:21: UserWarning: old: …",
    ]
    assert CANARY not in result.stderr
