"""`python -m exporter`, and what the commands `exporter` and `sidecar-exporter` call.

Sends `healthcheck` to its standard-library file before click, or anything else that is heavy, is imported.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType, TracebackType

from exporter import healthcheck

_OTHERS = frozenset({"check", "probe", "generate", "demo"})
"""Commands that end when their terminal does."""


def main() -> None:
    """Runs the command line of this process and exits with its code."""
    sys.excepthook = tell
    if healthcheck.is_asked_for(sys.argv[1:]):
        sys.exit(healthcheck.main(sys.argv[1:]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)  # until a command that has something to clear up puts its own in place
    if _OTHERS.isdisjoint(sys.argv[1:]):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until `run` reloads by it: what it will load is not old yet
    from exporter.cli import main as command_line  # noqa: PLC0415 - not before it is known to be needed

    command_line()


def end(number: int, _: FrameType | None) -> None:
    """Ends at once: there is nothing to clear up.

    Without it Ctrl-C shows a traceback, and a container's first process hears no SIGTERM.
    """
    os._exit(0 if number == signal.SIGTERM else 128 + number)


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """One line for an exception that nobody expected: its text may hold anything, so it stays inside."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    sys.stderr.write(f"unexpected {kind.__name__}{place}; please report it\n")


if __name__ == "__main__":
    main()
