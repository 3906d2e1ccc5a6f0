"""The text form over HTTP, exactly as it stands on a terminal."""

from dataclasses import replace

from exporter.config import Web
from exporter.model import CircuitState, CircuitStatus, ProbeStatus, Reason, Status
from tests.web.serving import BINANCE, CELERY, DB, FIVE, NOW, RABBITMQ, WALL, serving

BODY = """\
unhealthy  since 04:02:52Z  root cause: rabbitmq
[-] rabbitmq  unhealthy  refused: connect 10.0.0.7:5672: connection refused  for 2m14s  checked 4s ago  next 23s
[-] celery    unhealthy  caused by rabbitmq  for 2m10s  checked 9s ago
[~] binance   degraded   rate_limited: 429, Retry-After 60s  for 12s  checked 12s ago  next 48s
[+] db        healthy    3.1ms  checked 4s ago
[?] report    unknown    disabled
"""


async def test_the_text_is_exactly_the_contract() -> None:
    """Read at 3 a.m.; grepped by scripts."""
    async with serving(*FIVE) as stand:
        asked = [
            await stand.ask("/health.txt"),
            await stand.ask("/health.txt?format=json"),
            await stand.ask("/health?format=text"),
            await stand.ask("/api/v1/health", Accept="text/plain"),
        ]
        for answer in asked:
            assert (answer.code, answer.type, answer.text) == (503, "text/plain; charset=utf-8", BODY)


async def test_one_probe_is_one_line() -> None:
    """The same line as in the aggregate, without the columns of others."""
    async with serving(*FIVE) as stand:
        answer = await stand.ask("/health/db?format=text")
        assert (answer.code, answer.text) == (200, "[+] db  healthy  3.1ms  checked 4s ago\n")


async def test_several_roots_are_all_named() -> None:
    """Two things are broken, not one."""
    async with serving(RABBITMQ, replace(RABBITMQ, name="db")) as stand:
        assert (await stand.ask("/health.txt")).text.startswith("unhealthy  since 04:02:52Z  root causes: db, rabbitmq\n")


async def test_all_well_is_short() -> None:
    """Nothing wrong, nothing more to read."""
    async with serving(DB) as stand:
        assert (await stand.ask("/health.txt")).text == "healthy  since 03:50:06Z\n[+] db  healthy  3.1ms  checked 4s ago\n"


async def test_every_kind_of_unknown_says_why() -> None:
    """Unknown is the one status whose cause is not in `reason`."""
    forced = CircuitStatus(CircuitState.FORCED_OPEN, NOW + 61)
    probes = (
        ProbeStatus("new", "http"),
        ProbeStatus("first", "http", last_run=NOW - 2, failing=True),
        replace(RABBITMQ, name="late", overdue=NOW - 1, last_run=NOW - 300),
        replace(BINANCE, name="blind", since=NOW - 1000, since_at=WALL - 1000, limited_since=NOW - 1000),
        replace(DB, name="forced", circuit=forced),
    )
    async with serving(*probes) as stand:
        assert (await stand.ask("/health.txt")).text == (
            "unknown\n"
            "[?] blind   unknown  rate_limited: 429, Retry-After 60s  checked 12s ago  next 48s\n"
            "[?] first   unknown  no verdict yet  checked 2s ago\n"
            "[?] late    unknown  overdue  checked 5m ago  next 23s\n"
            "[?] new     unknown  not checked yet\n"
            "[?] forced  unknown  circuit forced open  checked 4s ago  next 1m1s\n"
        )


async def test_a_message_stays_on_its_line() -> None:
    """A target must not be able to forge a line of ours, or to drive the terminal."""
    forged = replace(CELERY, depends_on=(), message="x\n[+] db  healthy\x1b[2J")
    async with serving(forged) as stand:
        lines = (await stand.ask("/health.txt")).text.splitlines()
        assert len(lines) == 2
        assert "\x1b" not in lines[1]


async def test_messages_are_left_out_without_the_token() -> None:
    """The reason is from a closed set and stays."""
    async with serving(RABBITMQ, web=Web(details="authorized")) as stand:
        assert "[-] rabbitmq  unhealthy  refused  for 2m14s" in (await stand.ask("/health.txt")).text


async def test_no_probe_at_all_is_unknown() -> None:
    """Nothing is known of nothing."""
    async with serving() as stand:
        answer = await stand.ask("/health.txt")
        assert (answer.code, answer.text) == (503, "unknown\n")


async def test_a_degraded_probe_without_a_message_has_its_reason() -> None:
    """`slow` says it all."""
    slow = replace(DB, status=Status.DEGRADED, reason=Reason.SLOW, message=None)
    async with serving(slow) as stand:
        assert "[~] db  degraded  slow  for 15m  checked 4s ago" in (await stand.ask("/health.txt")).text
