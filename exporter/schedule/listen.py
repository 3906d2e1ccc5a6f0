"""Keeps a probe's listener alive beside its check: restarted a second after it ends, however it ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from exporter.errors import ProbeError
from exporter.log import about
from exporter.model import Reason
from exporter.secret import Redactor

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
A_WHILE_SECONDS = 60.0


async def keep_listening(
    probe: str,
    listen: Callable[[], Awaitable[None]],
    translate: Callable[[Exception], ProbeError | None],
    redactor: Redactor,
) -> None:
    """Runs `listen` for ever. A ProbeError is its ordinary end; anything else is a bug of ours.

    The same end is logged once in a row, and again when it had listened for a while.
    """
    said = ""
    now = asyncio.get_running_loop().time
    while True:
        began = now()
        error = await _ended(listen)
        if error is not None:
            known = _known(error, translate)
            text = f"{known.reason}: {redactor.clean(known.message)}"
            if text != said or now() - began >= A_WHILE_SECONDS:
                fields = about(probe, reason=known.reason, duration_seconds=now() - began)
                log.warning("listening ended, again in %gs: %s", RESTART_SECONDS, text, extra=fields)
                said = text
        await asyncio.sleep(RESTART_SECONDS)


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
