"""The status page over HTTP."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

from exporter.config import Web
from exporter.model import CHECK, Availability, CollectorStatus, Outcome, PastRun, ProbeStatus, Reason
from tests.web.serving import BINANCE, CELERY, DB, FIVE, NO_PAST, NOW, RABBITMQ, REPORT, WALL, serving

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Seen(HTMLParser):
    """The elements with their attributes, and the words outside style, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._styling = False
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._styling = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._styling = False

    def handle_data(self, data: str) -> None:
        if not self._styling:
            self.words.append(data)

    def links(self) -> list[str | None]:
        return [attributes.get("href") for tag, attributes in self.elements if tag == "a"]


async def test_the_page_is_always_there_and_health_as_html_has_its_code() -> None:
    """A browser at / sees the page; what asks /health gets the verdict in the code, also as HTML."""
    async with serving(*FIVE) as stand:
        page = await stand.ask("/")
        assert (page.code, page.type) == (200, "text/html; charset=utf-8")
        health = await stand.ask("/health", Accept=BROWSER)
        assert (health.code, health.type) == (503, "text/html; charset=utf-8")
        assert (await stand.ask("/health/db", Accept=BROWSER)).code == 200
        assert (await stand.ask("/health?format=html")).code == 503


async def test_the_root_cause_comes_first_as_a_sentence() -> None:
    """What is broken, since when, why, and what waits on it."""
    async with serving(*FIVE) as stand:
        seen = Seen((await stand.ask("/")).text)
    sentence = "rabbitmq is down since 04:02:52Z: refused: connect 10.0.0.7:5672: connection refused; celery waits on it."
    assert sentence in seen.text
    assert seen.text.index(sentence) < seen.text.index("Checked")
    assert "1 disabled" in seen.text


async def test_without_a_root_cause_the_sentence_says_what_is_lacking() -> None:
    """Degraded, unknown and healthy have no root cause, yet a reader wants one sentence."""
    cases = [
        ((DB, BINANCE), "binance is degraded since 04:04:54Z: rate_limited: 429, Retry-After 60s."),
        ((ProbeStatus("new", "http"),), "new is unknown: not checked yet."),
        ((DB, replace(DB, name="b")), "Every probe is healthy."),
        ((DB,), "db is healthy."),
        ((REPORT,), "Nothing is being probed."),
        ((), "Nothing is being probed."),
        (tuple(replace(RABBITMQ, name=f"p{n}") for n in range(9)), "and 4 more, below."),
    ]
    for probes, sentence in cases:
        async with serving(*probes) as stand:
            assert sentence in Seen((await stand.ask("/")).text).text


async def test_the_table_shows_every_probe_worst_first() -> None:
    """Marker and word, never colour alone; ages, duration, circuit with its countdown, failing collectors, details."""
    locks = CollectorStatus("locks", False, Reason.FORBIDDEN, "permission denied for view pg_locks", NOW - 70, WALL - 70, 0.1)
    never = CollectorStatus("activity", False, Reason.TIMEOUT)
    async with serving(RABBITMQ, CELERY, BINANCE, REPORT, replace(DB, collectors=(locks, never))) as stand:
        seen = Seen((await stand.ask("/")).text)
    places = [seen.text.index(f" {name}") for name in ("rabbitmq rabbitmq", "celery celery", "binance http", "db postgres")]
    assert places == sorted(places)
    for words in (
        "✕ rabbitmq rabbitmq unhealthy 2m14s 4s ago 3.0ms open next in 23s",
        "caused by rabbitmq (refused: connect 10.0.0.7:5672: connection refused)",
        "queues timeout: no answer in 1s (last success 12s ago)",
        "~ binance http, not critical degraded 12s 12s ago 212ms open next in 48s",
        "✓ db postgres healthy 15m 4s ago 3.1ms closed",
        "locks forbidden: permission denied for view pg_locks (last success 1m10s ago)",
        "activity timeout (never succeeded)",
        "server_version 15.4 tls no",
        "? report http unknown disabled",
    ):
        assert words in seen.text


async def test_nothing_of_a_target_is_markup() -> None:
    """A server's message, version and names are an attacker's way into the operator's browser."""
    evil = "<script>alert(1)</script>\"'><img src=x>"
    probe = replace(
        RABBITMQ,
        message=evil,
        type=evil,
        detail={evil: evil, "list": [evil]},
        collectors=(CollectorStatus(evil, False, Reason.TIMEOUT, evil),),
    )
    async with serving(probe) as stand:
        for path in ("/", "/health/rabbitmq?format=html"):
            answer = await stand.ask(path)
            assert {tag for tag, _ in Seen(answer.text).elements}.isdisjoint({"script", "img"})
            assert "<script" not in answer.text
            assert "&lt;script&gt;alert(1)" in answer.text


async def test_the_page_fetches_nothing_and_allows_nothing() -> None:
    """It is read on machines without a network, through tunnels, and beside secrets."""
    async with serving(*FIVE) as stand:
        answer = await stand.ask("/")
    seen = Seen(answer.text)
    assert all(not attributes.get("src") for _, attributes in seen.elements)
    assert [attributes["href"][:5] for tag, attributes in seen.elements if tag == "link" and attributes["href"]] == ["data:"]
    assert ("meta", {"http-equiv": "refresh", "content": "10"}) in seen.elements
    style = re.search(r"<style>(.*)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:")
    assert "url(" not in style[1]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_links_are_relative_to_where_the_page_stands() -> None:
    """Behind a reverse proxy's path prefix an absolute link leads elsewhere."""
    async with serving(DB) as stand:
        assert Seen((await stand.ask("/")).text).links() == ["health/db", "health.txt", "health?format=json", "metrics"]
        deeper = Seen((await stand.ask("/health/db?format=html")).text).links()
        assert deeper == [
            "../health/db",
            "../",
            "../api/v1/probes/db/history",
            "../health.txt",
            "../health?format=json",
            "../metrics",
        ]


async def test_without_the_token_the_page_shows_no_message_and_no_detail() -> None:
    """A collector's message is a message too."""
    async with serving(RABBITMQ, DB, web=Web(details="authorized")) as stand:
        for path in ("/", "/health?format=html", "/health/rabbitmq?format=html"):
            text = (await stand.ask(path)).text
            assert "10.0.0.7" not in text
            assert "no answer in 1s" not in text
            assert "15.4" not in text
            assert "refused" in text


async def test_one_probes_page_speaks_of_that_probe() -> None:
    """Its title and its sentence, though others are down."""
    async with serving(*FIVE) as stand:
        seen = Seen((await stand.ask("/health/celery?format=html")).text)
    assert "celery unhealthy" in seen.text
    assert "celery is down since 04:02:56Z: caused by rabbitmq." in seen.text
    assert "binance" not in seen.text


async def test_collectors_that_fail_alike_share_a_line_and_a_healthy_page_names_them() -> None:
    """A server that is down fails every collector with one message; a right that is missing hides behind a healthy probe."""
    collectors = tuple(
        CollectorStatus(name, False, Reason.REFUSED, "connection refused", NOW - age, WALL, 0.1) for name, age in ALIKE
    )
    async with serving(replace(DB, collectors=collectors), replace(DB, name="other")) as stand:
        seen = Seen((await stand.ask("/")).text)
    assert "locks, activity refused: connection refused (last success 1m10s ago)" in seen.text
    assert "Every probe is healthy. db cannot read locks, activity; see below." in seen.text


async def test_the_last_checks_stand_as_a_strip_that_can_be_read_aloud() -> None:
    """Oldest first, worse ones taller as well as redder; in words for whoever cannot see it."""
    outcomes = [Outcome.SUCCESS] * 26 + [Outcome.DEGRADED, Outcome.FAILURE, Outcome.FAILURE, Outcome.SUCCESS]
    runs = tuple(PastRun(CHECK, outcome, WALL, 0.003, None, 0) for outcome in reversed(outcomes))
    good = PastRun(CHECK, Outcome.SUCCESS, WALL, 0.003, None, 0)
    pasts = {"db": replace(NO_PAST, runs=runs), "rabbitmq": replace(NO_PAST, runs=(good,))}
    async with serving(DB, RABBITMQ, REPORT, pasts=pasts) as stand:
        seen = Seen((await stand.ask("/")).text)
        labels = [attributes["aria-label"] for _, attributes in seen.elements if attributes.get("role") == "img"]
        assert labels == ["last check: good", "last 30 checks: 2 failed, 1 degraded"]
        one = Seen((await stand.ask("/health/db?format=html")).text)
    ticks = [attributes.get("class") for tag, attributes in one.elements if tag == "i"]
    assert ticks == [None] * 26 + ["degraded", "unhealthy", "unhealthy", None]


async def test_availability_says_of_how_much_it_speaks() -> None:
    """Of the last day, never rounded up to 100%; nothing where nothing was observed."""
    availability = {"1h": Availability(3600.0, 3600.0), "24h": Availability(21599.0, 21600.0)}
    async with serving(DB, REPORT, pasts={"db": replace(NO_PAST, availability=availability)}) as stand:
        seen = Seen((await stand.ask("/")).text)
    assert "closed 99.99% of 6h server_version" in seen.text
    assert "report http unknown disabled" in seen.text
    titles = [attributes.get("title") for _, attributes in seen.elements]
    assert "1h: 100% of 1h observed; 24h: 99.99% of 6h observed" in titles


ALIKE = (("locks", 70), ("activity", 12))
