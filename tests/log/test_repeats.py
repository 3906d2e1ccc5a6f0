"""Lines that repeat are held back, and nothing is lost by it but their number of times."""

import json
import logging
import tracemalloc
from io import StringIO

from exporter.log import Sparing, about, configure
from exporter.log.lines import JsonFormat
from exporter.log.repeats import MOST_ALIKE, MOST_KEYS, WINDOW_SECONDS, Repeats
from exporter.secret import Redactor


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Writer:
    """What came through, as sentences."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.repeats = Repeats(self.clock)
        self.written: list[logging.LogRecord] = []

    def say(self, template: str, *arguments: object, probe: str = "", name: str = "exporter.schedule") -> None:
        record = logging.LogRecord(name, logging.WARNING, "", 0, template, arguments, None)
        record.about = about(probe or None)["about"]
        self.written += self.repeats.admit(record)

    def told(self) -> list[str]:
        return [record.getMessage() for record in self.written]


def test_a_line_every_second_is_six_a_minute() -> None:
    """A listener that cannot connect, for a day: each minute its first lines and one that says how many more there were."""
    writer = Writer()
    for second in range(24 * 3600):
        writer.clock.now = float(second)
        writer.say("listening ended: port %d", second, probe="broker")
    assert len(writer.written) <= 24 * 60 * (MOST_ALIKE + 1)
    assert writer.told()[:7] == [
        *(f"listening ended: port {second}" for second in range(5)),
        "55 more like this were held back, the last: listening ended: port 59",
        "listening ended: port 60",
    ]
    assert all(record.about.probe == "broker" for record in writer.written)  # type: ignore[attr-defined]


def test_what_was_held_back_is_said_in_time_and_in_full() -> None:
    """The last state of something that flaps must stand in the log although nothing else is said after it."""
    writer = Writer()
    for number in range(8):
        writer.say("%s", "healthy" if number % 2 else "unhealthy", probe="db")  # the text is the key: two kinds of line
    for number in range(8):
        writer.say("now %s", "healthy" if number % 2 else "unhealthy", probe="db")
    assert len(writer.written) == 8 + MOST_ALIKE
    assert writer.repeats.ended() == []
    writer.clock.now = WINDOW_SECONDS
    (summary,) = writer.repeats.ended()
    assert summary.getMessage() == "3 more like this were held back, the last: now healthy"
    assert summary.levelno == logging.WARNING
    assert writer.repeats.ended() == []


def test_lines_that_differ_in_logger_template_probe_or_collector_are_told_apart() -> None:
    """A hundred probes that go down at once are a hundred lines."""
    writer = Writer()
    for number in range(100):
        for name in ("exporter.a", "exporter.b"):
            for template in ("down", "up"):
                writer.say(template, probe=f"p{number}", name=name)
    assert len(writer.written) == 400


def test_a_library_whose_text_is_made_beforehand_is_held_back_too() -> None:
    """asyncio makes its text itself: the first line is alike, what follows holds an address."""
    writer = Writer()
    for number in range(100):
        writer.say(f"Task exception was never retrieved\nfuture: <Task at {number}>", name="asyncio")
    assert len(writer.written) == MOST_ALIKE


def test_memory_and_lines_are_bounded_whatever_comes() -> None:
    """Ten thousand kinds of line, each of them large."""
    writer = Writer()
    tracemalloc.start()
    try:
        for number in range(10 * MOST_KEYS):
            writer.say(f"{number} of many: %s", "x" * 1000)
        largest = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(writer.written) <= (MOST_KEYS + 1) * MOST_ALIKE
    assert len(writer.repeats._windows) == MOST_KEYS + 1
    assert largest < 10_000_000


def test_a_record_held_back_keeps_no_frame_alive() -> None:
    """A traceback's frames hold connections and secrets; a minute is long."""
    writer = Writer()
    for _ in range(MOST_ALIKE + 1):
        record = logging.LogRecord("exporter.x", logging.ERROR, "", 0, "failed", (), None)
        try:
            raise ValueError("secret text")
        except ValueError as error:
            record.exc_info = (type(error), error, error.__traceback__)
        writer.repeats.admit(record)
    (summary,) = writer.repeats.all()
    assert summary.exc_info is None
    assert "failed: ValueError at test_repeats.py:" in summary.getMessage()
    assert "secret text" not in summary.getMessage()


def test_a_reload_does_not_let_go_of_what_is_held_back() -> None:
    """A file that is written again and again, each time with the same mistake, is no way around it."""
    root, stream = logging.getLogger(), StringIO()
    before = root.handlers[:], root.level, logging.raiseExceptions
    try:
        for _ in range(100):
            configure("text", "info", Redactor(), stream)
            logging.getLogger("exporter.app.reload").error("configuration not reloaded: %s", "config.yaml:1:1")
    finally:
        root.handlers[:], level, logging.raiseExceptions = before
        root.setLevel(level)
    assert len(stream.getvalue().splitlines()) == MOST_ALIKE


def test_a_handler_says_at_the_end_what_it_holds() -> None:
    """An end within the minute: the count stands in the log all the same, as a field of its own."""
    stream = StringIO()
    handler = Sparing(stream)
    handler.setFormatter(JsonFormat(Redactor()))
    for number in range(MOST_ALIKE + 3):
        handler.handle(logging.LogRecord("exporter.x", logging.ERROR, "", 0, "failed %d", (number,), None))
    handler.tell_held_back(at_the_end=False)
    assert len(stream.getvalue().splitlines()) == MOST_ALIKE
    handler.tell_held_back(at_the_end=True)
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["suppressed"], last["message"]) == (3, "3 more like this were held back, the last: failed 7")
