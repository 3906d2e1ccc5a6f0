"""Keeps a probe's listener alive beside its check: restarted a second after it ends, however it ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from exporter.errors import ProbeError
from exporter.secret import Redactor

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0


async def keep_listening(
    probe: str,
    listen: Callable[[], Awaitable[None]],
    translate: Callable[[Exception], ProbeError | None],
    redactor: Redactor,
) -> None:
    """Runs `listen` for ever. A ProbeError is its ordinary end and is logged once in a row; anything else is a bug of ours."""
    said = ""
    while True:
        try:
            await listen()
        except Exception as error:  # noqa: BLE001  # around one listener
            known = error if isinstance(error, ProbeError) else translate(error)
            text = (
                f"{known.reason}: {redactor.clean(known.message)}"
                if known
                else f"unexpected {type(error).__name__}; please report it"
            )
            if text != said:
                log.warning("%s: listening ended, again in %gs: %s", probe, RESTART_SECONDS, text)
                said = text
        await asyncio.sleep(RESTART_SECONDS)
