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
        try:
            await listen()
        except Exception as error:  # noqa: BLE001  # around one listener
            known = error if isinstance(error, ProbeError) else translate(error)
            text = (
                f"{known.reason}: {redactor.clean(known.message)}"
                if known
                else f"unexpected {type(error).__name__}; please report it"
            )
            if text != said or now() - began >= A_WHILE_SECONDS:
                fields = about(probe, reason=known.reason if known else Reason.INTERNAL, duration_seconds=now() - began)
                log.warning("listening ended, again in %gs: %s", RESTART_SECONDS, text, extra=fields)
                said = text
        await asyncio.sleep(RESTART_SECONDS)
