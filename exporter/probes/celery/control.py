"""Asks workers by remote control and gathers what they answer, for no longer than it takes. Knows no broker and no verdict."""

import asyncio
import secrets
from collections.abc import Collection

from exporter.probes.celery.broker import Line
from exporter.probes.celery.protocol import Answer, Command, Json, Rejected, answer_in

PING, ACTIVE_QUEUES, ENABLE_EVENTS = "ping", "active_queues", "enable_events"
"""The commands that we send (celery/worker/control.py). No other is: some answer with all that a worker holds."""


def command(method: str, destination: Collection[str] | None = None) -> Command:
    """A command with a ticket of its own."""
    return Command(method, secrets.token_hex(16), None if destination is None else tuple(sorted(destination)))


async def gather(line: Line, asking: Command, awaited: Collection[str], within_seconds: float) -> dict[str, Json]:
    """The answers by worker: until all `awaited` have answered, or, where nobody is, all that hear the command, or time is up.

    Raises:
        ProbeError: the broker cannot be used.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within_seconds
    heard_by = await line.ask(asking, within_seconds)
    answers: dict[str, Json] = {}
    while not _enough(answers, awaited, heard_by) and loop.time() < until:
        answer = await _next(line, until - loop.time())
        if answer is not None and answer.ticket == asking.ticket:
            answers[answer.hostname] = answer.value
    return answers


async def _next(line: Line, within_seconds: float) -> Answer | None:
    """The next answer, to whichever question; None for a message that is none, and when none came in time."""
    try:
        message = await line.answer(within_seconds)
        return None if message is None else answer_in(message)
    except Rejected:
        return None


def _enough(answers: Collection[str], awaited: Collection[str], heard_by: int | None) -> bool:
    if heard_by is not None and len(answers) >= heard_by:
        return True
    return bool(awaited) and set(awaited) <= set(answers)
