"""The operators' POSTs: who may, and what is told."""

import asyncio
import json

import pytest

from exporter.config import Web
from exporter.secret import Secret
from exporter.web import Refused, operations
from tests.web.serving import DB, serving

PATHS = ("/-/reload", "/api/v1/probes/db/run", "/api/v1/circuits/db", "/api/v1/circuits/nobody")
GUARDED = Web(token=Secret("s3cret"))
RIGHT = "Bearer s3cret"


class Recorded:
    """Commands that are carried out at once; `problem` is raised instead."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.orders: list[str] = []
        self.problem = problem

    async def reload(self) -> str:
        return self._done("reload")

    async def run(self, probe: str) -> str:
        return self._done(f"run {probe}")

    def _done(self, order: str) -> str:
        if self.problem is not None:
            raise self.problem
        self.orders.append(order)
        return f"done: {order}"


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_configured_token_every_post_is_403(path: str) -> None:
    """Nothing that came with the request can open what was never given a key."""
    commands = Recorded()
    async with serving(DB, commands=commands) as stand:
        for authorization in ("", "Bearer ", RIGHT):
            answer = await stand.ask(path, "POST", Authorization=authorization)
            assert answer.code == 403
            assert "no token is configured (web.token or EXPORTER_TOKEN)" in json.loads(answer.body)["error"]
    assert commands.orders == []


@pytest.mark.parametrize("path", PATHS)
async def test_a_wrong_token_is_403_and_learns_nothing(path: str) -> None:
    """Not even whether the probe exists; the token is never repeated."""
    commands = Recorded()
    async with serving(DB, web=GUARDED, commands=commands) as stand:
        assert (await stand.ask(path, "POST")).code == 403
        for authorization in ("", "Bearer", "Bearer wrong", "Basic s3cret"):
            answer = await stand.ask(path, "POST", Authorization=authorization)
            assert answer.code == 403
            assert "s3cret" not in answer.text
            assert "wrong" not in answer.text
    assert commands.orders == []


async def test_the_token_opens_and_the_order_reaches_the_app() -> None:
    """By the probe's own name, whatever alias was used."""
    commands = Recorded()
    async with serving(DB, web=GUARDED, commands=commands) as stand:
        answer = await stand.ask("/-/reload", "POST", Authorization=RIGHT)
        assert (answer.code, answer.text) == (200, "done: reload\n")
        assert (await stand.ask("/api/v1/probes/database/run", "POST", Authorization=RIGHT)).code == 200
        assert (await stand.ask("/api/v1/probes/nobody/run", "POST", Authorization=RIGHT)).code == 404
    assert commands.orders == ["reload", "run db"]


async def test_what_is_not_offered_says_so() -> None:
    """501, not a pretended success."""
    async with serving(DB, web=GUARDED) as stand:
        for path in PATHS[:3]:
            answer = await stand.ask(path, "POST", Authorization=RIGHT, Accept="text/plain")
            assert (answer.code, answer.text) == (501, "this exporter does not offer this operation\n")


async def test_a_refusal_is_told_with_its_reason() -> None:
    """409 and the words of the app, as plain as the good answer would be: they may be a list."""
    async with serving(DB, web=GUARDED, commands=Recorded(Refused("config.yaml has 2 problems"))) as stand:
        answer = await stand.ask("/-/reload", "POST", Authorization=RIGHT)
        assert (answer.code, answer.body) == (409, b"config.yaml has 2 problems\n")


async def test_an_order_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request waits for ever, whatever the app does."""

    class Hanging(Recorded):
        async def reload(self) -> str:
            await asyncio.Event().wait()
            return "never"

    monkeypatch.setattr(operations, "DEADLINE_SECONDS", 0.05)
    async with serving(DB, web=GUARDED, commands=Hanging()) as stand:
        assert (await stand.ask("/-/reload", "POST", Authorization=RIGHT)).code == 504


async def test_a_body_that_nobody_asked_for_changes_nothing() -> None:
    """It is not read, and the connection serves the next request."""
    async with serving(DB, web=GUARDED) as stand:
        assert (await stand.ask("/-/reload", "POST", body=b"x" * 200_000)).code == 403
        assert (await stand.ask("/livez")).code == 200
