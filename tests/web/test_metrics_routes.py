"""Scrapes over HTTP: format, coding, one probe."""

import gzip
import threading
from itertools import count

from tests.web.serving import DB, FIVE, exposition, serving

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


async def test_a_scrape_as_prometheus_sends_it() -> None:
    """OpenMetrics, gzip, and a content type that says exactly what the body is."""
    async with serving(DB) as stand:
        for path in ("/metrics", "/api/v1/metrics"):
            answer = await stand.ask(path, Accept=PROMETHEUS_2_42, Accept_Encoding="gzip", X_Prometheus_Scrape_Timeout_Seconds="10")
            assert (answer.code, answer.type) == (200, OPENMETRICS)
            assert answer.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(answer.body) == exposition(True, None)


async def test_curl_gets_plain_text() -> None:
    """No Accept-Encoding, no coding."""
    async with serving(DB) as stand:
        answer = await stand.ask("/metrics", Accept="*/*")
        assert (answer.type, answer.body) == (TEXT, exposition(False, None))
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Vary"] == "Accept, Accept-Encoding"


async def test_several_accept_headers_are_one_list() -> None:
    """RFC 9110 5.3; a proxy may split them."""
    async with serving(DB) as stand:
        assert (await stand.ask("/metrics", Accept="text/plain;q=0.5, application/openmetrics-text")).type == OPENMETRICS


async def test_one_probe_by_name_or_alias() -> None:
    """The exposition is asked by the probe's own name."""
    async with serving(*FIVE) as stand:
        assert (await stand.ask("/metrics?probe=db")).body == exposition(False, "db")
        assert (await stand.ask("/metrics?probe=database")).body == exposition(False, "db")
        assert (await stand.ask("/metrics?probe=")).code == 404


async def test_a_small_body_is_compressed_only_when_identity_is_refused() -> None:
    """Below a kilobyte compression costs more than it saves."""
    async with serving(DB, metrics=lambda openmetrics, probe: b"pg_up 1\n") as stand:
        assert (await stand.ask("/metrics", Accept_Encoding="gzip")).body == b"pg_up 1\n"
        answer = await stand.ask("/metrics", Accept_Encoding="gzip, identity;q=0")
        assert gzip.decompress(answer.body) == b"pg_up 1\n"


async def test_a_changed_body_is_never_answered_from_the_last_one() -> None:
    """The kept coding belongs to its bytes."""
    numbers = count()
    async with serving(DB, metrics=lambda openmetrics, probe: b"x %d\n" % next(numbers) * 300) as stand:
        for number in range(3):
            answer = await stand.ask("/metrics", Accept_Encoding="gzip")
            assert gzip.decompress(answer.body) == b"x %d\n" % number * 300


async def test_the_compressing_thread_ends_with_the_server() -> None:
    """One daemon thread of its own while serving, none afterwards."""
    async with serving(DB) as stand:
        await stand.ask("/metrics", Accept_Encoding="gzip")
        threads = [thread for thread in threading.enumerate() if thread.name == "gzip"]
        assert [thread.daemon for thread in threads] == [True]
    threads[0].join(5)
    assert not threads[0].is_alive()
