"""How `exporter demo break` reaches the demo that runs: a socket in a folder that is this user's alone.

One line each way. A request is `break NAME HOW`, `heal NAME`, `pause` or `resume`; the answer is `ok TEXT` or `error TEXT`.
"""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from exporter.errors import ExporterError

ANSWER_SECONDS = 90.0

Perform = Callable[[str], Awaitable[str]]
"""Does what a request says and tells what happened; raises ExporterError where it cannot."""


class NoDemo(ExporterError):
    """No demo can be reached."""


class DemoRuns(ExporterError):
    """A demo of this user runs already."""


def socket_path(environment: Mapping[str, str]) -> Path:
    """Where the socket is: under $XDG_RUNTIME_DIR, else in a folder of /tmp that is named for the user."""
    runtime = Path(environment.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.is_dir():
        return runtime / "sidecar-demo" / "socket"
    return Path("/tmp") / f"sidecar-demo-{os.geteuid()}" / "socket"  # noqa: S108  # its folder's owner and mode are checked below


def ask(path: Path, request: str) -> str:
    """Sends one request to the demo and returns the text of its answer.

    Raises:
        NoDemo: nobody listens there, or no answer came.
        ExporterError: the demo could not do it; with its message.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_SECONDS)
        try:
            client.connect(str(path))
            client.sendall(f"{request}\n".encode())
            answer = client.makefile().readline().strip()
        except (FileNotFoundError, ConnectionRefusedError) as error:  # the second: a killed demo left its socket
            raise NoDemo("no demo runs; start one with `exporter demo` in another terminal") from error
        except OSError as error:
            raise NoDemo(f"the demo does not answer: {error}") from error
    verdict, _, text = answer.partition(" ")
    if verdict != "ok":
        raise ExporterError(text or "the demo ended before it answered")
    return text


@contextmanager
def claimed(path: Path) -> Iterator[socket.socket]:
    """The socket, bound; it and its folder are removed at the end of the block.

    Raises:
        DemoRuns: somebody answers there. A socket that a killed demo left is replaced.
        NoDemo: its folder is somebody else's, or open to others.
    """
    _make_private(path.parent)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        if client.connect_ex(str(path)) == 0:
            raise DemoRuns("a demo runs already; end it first")
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        try:
            yield bound
        finally:
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
        raise NoDemo(f"{folder}: must be a folder of yours with mode 0700")


@asynccontextmanager
async def answering(bound: socket.socket, perform: Perform) -> AsyncIterator[None]:
    """Answers requests for as long as the block lasts, one at a time."""
    turn = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readline()).decode(errors="replace").strip()
            async with turn:
                answer = await _answer(perform, request) if request else ""
            writer.write(f"{answer}\n".encode())
            await writer.drain()
        except (OSError, ValueError):  # the asker is gone, or its line was endless
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, sock=bound)
    try:
        yield
    finally:
        server.close()


async def _answer(perform: Perform, request: str) -> str:
    try:
        return f"ok {await perform(request)}"
    except ExporterError as error:
        return f"error {error}"
