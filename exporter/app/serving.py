"""The life of a serving process: listen, probe, reload when asked, end in order. Knows no probe type and no command line."""

import asyncio
import logging
import signal
from collections.abc import Callable

from exporter import __version__
from exporter.app.exporter import Exporter
from exporter.app.reload import Origin, Reloader
from exporter.app.watch import watching
from exporter.config import Configuration
from exporter.log import tell_held_back
from exporter.schedule import Schedule
from exporter.secret import Redactor
from exporter.watchdog import Watchdog, last_resort

log = logging.getLogger(__name__)

CLOSE_SECONDS = 4.0
"""Kubernetes and Docker kill after their own grace; ours is shorter, so that an end is always an orderly one."""


async def serve(configuration: Configuration, origin: Origin, redactor: Redactor, announce: Callable[[str], None]) -> None:
    """Listens, probes, and ends in order after SIGTERM or SIGINT: readiness first, then everything else.

    SIGHUP, a POST and a changed file have it read `origin` again. `announce` is given the URL once it is served. Raises:
        CannotListen: the address cannot be used.
    """
    exporter = Exporter(configuration, redactor)
    reloader = Reloader(exporter, origin)
    exporter.auth_failed = reloader.doubt
    ended = _signals(reloader)
    server = await exporter.listen(reloader)
    announce(server.url)
    log.info("sidecar-exporter %s on %s: %s", __version__, server.url, _outline(configuration))
    if configuration.notice:
        log.info("%s", configuration.notice)
    for warning in configuration.warnings:
        log.warning("%s", warning)
    beat = asyncio.create_task(_beat(exporter.schedule), name="heartbeat")
    starting = asyncio.create_task(_start(exporter, reloader), name="start")
    with watching(origin.path, reloader.noticed):
        await _until(ended, starting)
        exporter.lifecycle.draining = True
        drain = exporter.configuration.web.drain_seconds
        log.info("ending: not ready any more, serving for another %gs", drain)
        await asyncio.sleep(drain)
    starting.cancel()
    closing = [asyncio.create_task(part) for part in (reloader.aclose(), exporter.schedule.aclose(), server.aclose())]
    await asyncio.wait(closing, timeout=CLOSE_SECONDS)
    beat.cancel()
    tell_held_back(at_the_end=True)
    log.info("ended")


def _outline(configuration: Configuration) -> str:
    """`5 probes from config.yaml, 1 of them disabled`."""
    settings = configuration.probes.values()
    disabled = sum(not probe.enabled for probe in settings)
    probes = f"{len(settings)} probe{'' if len(settings) == 1 else 's'} from {configuration.source}"
    return f"{probes}, {disabled} of them disabled" if disabled else probes


async def _beat(schedule: Schedule) -> None:
    """The heartbeat; a watchdog listens for it, and lines that were held back are due with it."""
    with Watchdog(last_resort=last_resort()) as watchdog:
        await schedule.beat(watchdog.fed, tell_held_back)


async def _start(exporter: Exporter, reloader: Reloader) -> None:
    await exporter.start()
    reloader.begin()


async def _until(ended: asyncio.Event, starting: "asyncio.Task[None]") -> None:
    """Until `ended`; a start that fails is our bug and ends the process with its traceback."""
    ending = asyncio.create_task(ended.wait(), name="end")
    await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
    await ending


def _signals(reloader: Reloader) -> asyncio.Event:
    """Set by SIGTERM or SIGINT. SIGHUP reloads: the shell's default would end us."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, reloader.ask, "SIGHUP")
    return ended
