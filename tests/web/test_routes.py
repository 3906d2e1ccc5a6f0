"""Paths and verbs, and what happens around every request."""

import asyncio
import json
import logging
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.model import Snapshot
from exporter.web import answers, metrics_routes
from tests.web.serving import DB, FIVE, healthy, serving

READABLE = (
    "/",
    "/health",
    "/api/v1/health",
    "/health.txt",
    "/health/db",
    "/api/v1/health/db",
    "/livez",
    "/readyz",
    "/startupz",
    "/-/healthy",
    "/-/ready",
    "/metrics",
    "/api/v1/metrics",
    "/api/v1/probes",
    "/api/v1/probes/db",
    "/api/v1/probes/db/history",
    "/api/v1/circuits",
    "/api/v1/circuits/db",
)


@pytest.mark.parametrize("path", READABLE)
async def test_head_is_get_without_the_body(path: str) -> None:
    """`curl -I` and load balancers ask so."""
    async with serving(*FIVE) as stand:
        got, head = await stand.ask(path), await stand.ask(path, "HEAD")
        assert head.body == b""
        assert (head.code, head.type) == (got.code, got.type)
        assert head.headers["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize("path", READABLE)
async def test_a_wrong_verb_is_405_and_says_which_are_right(path: str) -> None:
    """Never a 404 for a path that exists."""
    async with serving(*FIVE) as stand:
        answer = await stand.ask(path, "DELETE")
        assert answer.code == 405
        assert answer.headers["Allow"] == (
            "GET, HEAD, POST" if path.startswith(("/api/v1/circuits", "/api/v1/probes")) else "GET, HEAD"
        )
        assert answer.text == f"this path takes {answer.headers['Allow']}\n"


async def test_operations_take_nothing_but_post() -> None:
    """A link that a crawler follows must not change state."""
    async with serving(*FIVE) as stand:
        for path in ("/-/reload", "/api/v1/probes/db/run"):
            for method in ("GET", "HEAD", "PUT"):
                answer = await stand.ask(path, method)
                assert (answer.code, answer.headers["Allow"]) == (405, "POST")


async def test_an_unknown_path_names_those_that_exist() -> None:
    """The manual for somebody without one; nothing of the request comes back."""
    async with serving(DB) as stand:
        for path in ("/helth<script>", "/health/db/x", "/api/v1/probes/db/past", "/health/"):
            answer = await stand.ask(path)
            assert (answer.code, answer.type) == (404, "text/plain; charset=utf-8")
            assert "/health.txt, /health/NAME" in answer.text
            assert "script" not in answer.text


async def test_an_unknown_name_names_those_that_exist() -> None:
    """JSON where the answer would have been JSON, else text; aliases are names; nothing of the request comes back."""
    sentence = "no such probe; there are: binance, celery, database, db, rabbitmq, report"
    async with serving(*FIVE) as stand:
        for path in ("/health/%3Cscript%3E", "/api/v1/health/x", "/api/v1/probes/x", "/api/v1/circuits/x", "/metrics?probe=x"):
            answer = await stand.ask(path)
            assert (answer.code, json.loads(answer.body)) == (404, {"error": sentence})
            plain = await stand.ask(path, Accept="text/html")
            assert (plain.code, plain.type, plain.text) == (404, "text/plain; charset=utf-8", sentence + "\n")


async def test_the_names_in_a_404_are_bounded() -> None:
    """A thousand probes would drown the sentence."""
    async with serving(*(healthy(f"p{number:03}") for number in range(60))) as stand:
        answer = await stand.ask("/health/x?format=text")
        assert answer.text.endswith("p048, p049 and 10 more\n")


async def test_an_unknown_format_is_told_which_there_are() -> None:
    """Only here a query parameter is refused: a guess would be read as data."""
    async with serving(DB) as stand:
        for path in ("/health?format=xml", "/health/db?format=%3Cb%3E"):
            answer = await stand.ask(path)
            assert (answer.code, answer.text) == (400, "format is one of json, text, html\n")


async def test_a_bug_of_ours_costs_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a sentence, the log the class and its place, the next request its answer."""

    def broken(openmetrics: bool, probe: str | None) -> bytes:
        raise ZeroDivisionError("inside")

    async with serving(DB, metrics=broken) as stand:
        with caplog.at_level(logging.ERROR):
            answer = await stand.ask("/metrics?token=hunter2")
        assert (answer.code, answer.text) == (500, "internal error; the log says more\n")
        assert "request to /metrics failed" in caplog.text
        assert "hunter2" not in caplog.text
        assert (await stand.ask("/health")).code == 200


async def test_requests_are_counted_by_route_method_and_code() -> None:
    """From closed sets: whatever path is asked, the series do not multiply."""
    async with serving(DB) as stand:
        for path, method in (("/health", "GET"), ("/api/v1/health", "HEAD"), ("/nope", "GET"), ("/secret", "POST")):
            await stand.ask(path, method)
        requests, durations = stand.surface.tally.families()
        counted = {labels: count for labels, count in requests.rows if count}
        assert counted == {
            ("health", "GET", "200"): 1,
            ("health", "HEAD", "200"): 1,
            ("other", "GET", "404"): 1,
            ("other", "POST", "404"): 1,
        }
        assert ("livez", "GET", "200") in dict(requests.rows)
        assert {labels[0] for labels, _ in requests.rows} == {labels[0] for labels, _ in durations.rows}


async def test_the_server_does_not_name_its_versions() -> None:
    """Headers that say which aiohttp and Python run serve nobody but an attacker."""
    async with serving(DB) as stand:
        assert (await stand.ask("/livez")).headers["Server"] == "sidecar-exporter"


async def test_answers_come_while_every_snapshot_is_the_last() -> None:
    """A hundred requests at once are answered: no answer waits for anything but the loop."""
    async with serving(*FIVE) as stand:
        answers = await asyncio.gather(*(stand.ask("/health") for _ in range(100)))
        assert {answer.code for answer in answers} == {503}


_HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(accept=st.lists(_HEADER, min_size=12, max_size=12), encoding=_HEADER)
def test_no_accept_header_gets_a_5xx(accept: list[str], encoding: str) -> None:
    """Over the wire, against every path that negotiates."""

    async def ask_all() -> set[int]:
        async with serving(DB) as stand:
            paths = ("/metrics", "/health", "/health/db", "/health/nobody")
            asked = [stand.ask(path, Accept=header, Accept_Encoding=encoding) for path in paths for header in accept]
            return {answer.code for answer in await asyncio.gather(*asked)}

    assert asyncio.run(ask_all()) == {200, 404}


def _noting(lengths: list[int], decides: Callable[[str], object]) -> Callable[[str], object]:
    def noting(header: str) -> object:
        lengths.append(len(header))
        return decides(header)

    return noting


async def test_what_is_negotiated_is_remembered_by_a_short_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 answers are remembered of each; keys of 128 headers at 8 kB would be a memory that anybody can fill."""
    lengths: list[int] = []
    for module, name in ((answers, "health_form"), (metrics_routes, "wants_openmetrics"), (metrics_routes, "codings")):
        monkeypatch.setattr(module, name, _noting(lengths, getattr(module, name)))
    long = "text/plain;q=0.5, " * 400
    async with serving(DB) as stand:
        for path in ("/health", "/metrics"):
            assert (await stand.ask(path, Accept=long, Accept_Encoding=long)).code == 200
    assert lengths == [2048, 2048, 2048]


async def test_a_snapshot_is_read_once_per_request() -> None:
    """Two snapshots in one body could contradict each other."""
    taken: list[Snapshot] = []

    def snap() -> Snapshot:
        taken.append(Snapshot(1, 0.0, (DB,), 1e9))
        return taken[-1]

    async with serving(snap=snap) as stand:
        for path in ("/", "/health", "/health/db", "/api/v1/probes/db", "/livez"):
            before = len(taken)
            await stand.ask(path)
            assert len(taken) == before + 1
