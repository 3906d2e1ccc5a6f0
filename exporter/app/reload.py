"""Reads the configuration again when asked, and has it take effect or says why not. Never two at a time; each bounded in time.

A configuration that cannot be used changes nothing: the one before goes on, and metric, log and page say so.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.app.difference import difference
from exporter.app.exporter import Exporter
from exporter.config import Configuration
from exporter.drivers.thread import in_thread
from exporter.errors import ConfigError
from exporter.log import about
from exporter.web import Refused

log = logging.getLogger(__name__)

READ_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the configuration came from. `path` is its file, None where the environment is all there is.

    `read` blocks and raises ConfigError; given a content, it takes that for the file's. `applied` is called with every
    configuration that has taken effect.
    """

    path: Path | None
    read: Callable[[bytes | None], Configuration]
    applied: Callable[[Configuration], None]


class Reloader:
    """What operators, signals and the file ask for; mutable. Nothing is carried out before `begin`."""

    def __init__(self, exporter: Exporter, origin: Origin) -> None:
        self._exporter = exporter
        self._origin = origin
        self._begun = asyncio.Event()
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[str]] = set()
        self._waiting: set[str] = set()
        self._reading: asyncio.Future[Configuration] | None = None
        self._last: Configuration | str = exporter.configuration

    def begin(self) -> None:
        """The probes of the first configuration are at work."""
        self._begun.set()

    async def aclose(self) -> None:
        """Ends what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- what is asked for -------------------------------------------------------------------------------------------

    async def reload(self) -> str:
        """Reads the configuration and has it take effect; returns what has changed. Whoever stops waiting stops nothing half-way.

        Raises:
            Refused: it cannot be used; the text holds every problem. Nothing has changed then.
        """
        return await asyncio.shield(self._begin("ordered", self._reload))

    async def run(self, probe: str) -> str:
        """Asks the schedule for a check of the probe now.

        Raises:
            Refused: it does not run.
        """
        if not self._exporter.schedule.ask(probe):
            raise Refused(f"{probe} does not run: it is switched off, or could not be made")
        return f"{probe}: a check was asked for"

    def ask(self, why: str) -> None:
        """As `reload`, in the background; what comes of it stands in log, metric and page."""
        log.info("reading the configuration again: %s", why)
        self._soon("asked", self._reload)

    def noticed(self) -> None:
        """The file may say something else. If so, that takes effect; nothing is said of one that was touched alone."""
        self._soon("file", self._reload_if_other)

    def doubt(self, probe: str) -> None:
        """The target has refused the probe's credentials: where their files say something else by now, that takes effect."""
        if probe in self._exporter.configuration.files:
            self._soon(f"secrets of {probe}", lambda: self._read_secrets(probe))

    # -- how it is done ----------------------------------------------------------------------------------------------

    async def _reload(self) -> str:
        return await self._settle(await self._found())

    async def _reload_if_other(self) -> str:
        found = await self._found()
        return await self._settle(found) if found != self._last else ""

    async def _read_secrets(self, probe: str) -> str:
        """The running configuration with what its secret files say by now; the file itself may be unusable at the moment."""
        running = self._exporter.configuration
        found = await self._found(running.content)
        if isinstance(found, str) or probe not in difference(running, found).changed:
            return ""
        log.info("its secrets say something else by now", extra=about(probe))
        if self._last == running:
            self._last = found
        return "; ".join(await self._take(found))

    async def _found(self, content: bytes | None = None) -> Configuration | str:
        """What the origin says, or what is wrong with it, a problem a line."""
        await self._begun.wait()
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._read(content)
        except ConfigError as error:
            return str(error)
        except TimeoutError:
            return f"{self._exporter.configuration.source}: could not be read within {READ_SECONDS:.0f}s"
        except Exception as error:  # noqa: BLE001  # around one reload
            return f"{self._exporter.configuration.source}: unexpected {type(error).__name__} while it was read; please report it"

    async def _read(self, content: bytes | None) -> Configuration:
        """Waits for a read that still hangs in a file instead of beginning one beside it: there is never more than one thread."""
        if self._reading is not None and not self._reading.done():
            await asyncio.wait((self._reading,))  # what it has found may be old by now
        self._reading = in_thread("read configuration", lambda: self._origin.read(content))
        return await asyncio.shield(self._reading)

    async def _settle(self, found: Configuration | str) -> str:
        self._last = found
        if isinstance(found, str):
            raise self._refused(found)
        try:
            told = await self._take(found)
        except Exception as error:
            what = f"{found.source}: unexpected {type(error).__name__} while it was applied; please report it"
            raise self._refused(what) from error
        self._exporter.state.reloaded(time.time())
        return f"reloaded: {'; '.join(told)}"

    async def _take(self, new: Configuration) -> list[str]:
        """Has it take effect; returns what is to be told of it."""
        old = self._exporter.configuration
        change = await self._exporter.apply(new, await self._exporter.load_changed(new))
        self._origin.applied(new)
        log.info("configuration reloaded: %s", change)
        warnings = [str(warning) for warning in new.warnings]
        if new.listen != old.listen:
            warnings.append(f"listen: the address stays {old.listen} until a restart")
        for warning in warnings:
            log.warning("%s", warning)
        return [str(change), *warnings]

    def _refused(self, problems: str) -> Refused:
        first, *more = problems.splitlines()
        told = f"{first} (and {len(more)} more)" if more else first
        self._exporter.state.not_reloaded(told)
        log.error("configuration not reloaded, the one before goes on: %s", told)
        return Refused(f"not reloaded, the configuration before goes on:\n{problems}")

    # -- in turn -----------------------------------------------------------------------------------------------------

    def _soon(self, name: str, work: Callable[[], Awaitable[str]]) -> None:
        """One that waits for its turn is enough: it reads what is there then. One that is at work may have read too early."""
        if name not in self._waiting:
            self._waiting.add(name)
            self._begin(name, work)

    def _begin(self, name: str, work: Callable[[], Awaitable[str]]) -> "asyncio.Task[str]":
        task = asyncio.create_task(self._in_turn(name, work), name=f"reload: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _in_turn(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        async with self._one:
            self._waiting.discard(name)
            return await work()

    def _ended(self, task: "asyncio.Task[str]") -> None:
        """What was refused has been told."""
        self._tasks.discard(task)
        if not task.cancelled() and not isinstance(task.exception(), Refused | None):
            log.critical("task %s died: %s; please report it", task.get_name(), type(task.exception()).__name__)
