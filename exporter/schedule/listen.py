"""Keeps a probe's listener alive beside its check: restarted a second after its end, whatever ended it, or later if refused."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from exporter.errors import ProbeError
from exporter.log import about
from exporter.model import Reason
from exporter.secret import Redactor

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
REFUSED_SECONDS = 30.0
"""The longest rest of one that is refused again and again. Each attempt is a line in the server's log, and may lock the account."""
REFUSALS = frozenset({Reason.AUTH, Reason.FORBIDDEN})
A_WHILE_SECONDS = 60.0


async def keep_listening(
    probe: str,
    listen: Callable[[], Awaitable[None]],
    translate: Callable[[Exception], ProbeError | None],
    redactor: Redactor,
    let_in: asyncio.Event,
) -> None:
    """Runs `listen` for ever. A ProbeError is its ordinary end; anything else is a bug of ours.

    One that is refused rests twice as long each time, but no longer than until `let_in` is set: checks succeed again.
    The same end is logged once in a row, and again when it had listened for a while.
    """
    said = ""
    refusals = 0
    now = asyncio.get_running_loop().time
    while True:
        began = now()
        error = await _ended(listen)
        known = None if error is None else _known(error, translate)
        refusals = refusals + 1 if known is not None and known.reason in REFUSALS else 0
        rest = min(RESTART_SECONDS * 2.0 ** min(max(refusals - 1, 0), 32), REFUSED_SECONDS)
        if known is not None:
            text = f"{known.reason}: {redactor.clean(known.message)}"
            if text != said or now() - began >= A_WHILE_SECONDS:
                fields = about(probe, reason=known.reason, duration_seconds=now() - began)
                log.warning("listening ended, again in %gs: %s", rest, text, extra=fields)
                said = text
        await _rest(rest, let_in if refusals else None)


async def _rest(seconds: float, let_in: asyncio.Event | None) -> None:
    """So long, or until `let_in` is set; where it is set already checks may what a listener may not, and it says nothing new."""
    if let_in is None or let_in.is_set():
        await asyncio.sleep(seconds)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await let_in.wait()


async def _ended(listen: Callable[[], Awaitable[None]]) -> BaseException | None:
    """What ended it. A cancel of ours is passed on; one that came from within is an end like any other."""
    task = asyncio.current_task()
    try:
        await listen()
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling():
            raise
        return error
    except Exception as error:  # noqa: BLE001  # around one listener
        return error
    if task is not None and task.cancelling():
        raise asyncio.CancelledError  # it has swallowed ours
    return None


def _known(error: BaseException, translate: Callable[[Exception], ProbeError | None]) -> ProbeError:
    if isinstance(error, ProbeError):
        return error
    try:
        known = translate(error) if isinstance(error, Exception) else None
    except Exception as other:  # noqa: BLE001  # as above: the probe's own code once more
        known, error = None, other
    return known or ProbeError(Reason.INTERNAL, f"unexpected {type(error).__name__}; please report it")
