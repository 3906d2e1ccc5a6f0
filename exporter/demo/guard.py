"""Runs one server as its child, and ends all that came of it once its owner is gone, however that died.

Run as a script with the standard library alone: `python -I -S guard.py PLAN`, PLAN being JSON (see `Plan`). Standard input
is a pipe that the owner holds: a number written to it is the seconds a shutdown may take; its end without a word means that
the owner died. Everything of the server's, also what detached itself (each PostgreSQL backend is a session of its own), is a
descendant of this process and stays one: orphans come to it (PR_SET_CHILD_SUBREAPER). It knows no server and no configuration.

A parent-death signal alone would not do: it is lost when a process changes its user, is sent when the *thread* that started
the child ends, and leaves stopped processes stopped (prctl(2)). Here it is the second line, should the guard itself be killed.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypedDict

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36

ORPHANED_SECONDS = 0.5
"""What a server gets for its shutdown when the owner died; with the killing that follows nothing is left after two seconds."""


class Plan(TypedDict):
    """`user` and `group` are numbers, None to stay who we are; `ending` is the number of the signal that asks for a shutdown;
    `folders` are removed when the owner died."""

    command: list[str]
    user: int | None
    group: int | None
    ending: int
    folders: list[str]


def descendants(pid: int) -> dict[int, str]:
    """The processes that came of `pid`, parents before children, with their state letter (proc(5)); zombies left out."""
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state, parent = _state_and_parent(entry)
            children.setdefault(parent, []).append((int(entry.name), state))
    found: dict[int, str] = {}
    generation = children.get(pid, [])
    while generation:
        found.update(generation)
        generation = [child for process, _ in generation for child in children.get(process, [])]
    return {process: state for process, state in found.items() if state not in "ZX"}


def _state_and_parent(entry: Path) -> tuple[str, int]:
    try:
        state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:  # it ended while we looked
        return "X", 0
    return state, int(parent)


def signal_all(pid: int, number: signal.Signals) -> None:
    """Sends a signal to every descendant of `pid`, parents first."""
    for process in descendants(pid):
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(process, number)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent ends; to be called after any change of user, which clears it."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _start(plan: Plan) -> int:
    guard = os.getpid()
    child = subprocess.Popen(
        plan["command"],
        stdin=subprocess.DEVNULL,
        user=plan["user"],
        group=plan["group"],
        extra_groups=None if plan["user"] is None else [],
        preexec_fn=lambda: die_with(guard),  # noqa: PLW1509  # the guard has one thread, so Python code is safe there
    )
    return child.pid


def _reap(child: int) -> int | None:
    """Collects what has ended; the exit code of `child` when that was among it (negative: the signal that ended it)."""
    code = None
    with suppress(ChildProcessError):  # nothing is left
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
    return code


def _wait_for_child(child: int, wakeup: int, until: float) -> int | None:
    while (left := until - time.monotonic()) > 0:
        code = _reap(child)
        if code is not None:
            return code
        if select.select([wakeup], [], [], left)[0]:
            os.read(wakeup, 4096)
    return _reap(child)


def _kill_rest() -> None:
    """Kills and collects until nothing is left: an uncollected process would still be there for all to see."""
    with suppress(ChildProcessError):
        while True:
            signal_all(os.getpid(), signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.005)


def _watch(child: int, wakeup: int) -> tuple[int | None, bytes | None]:
    """Waits until the child ended (its exit code) or the owner spoke or died (what it said)."""
    while True:
        code = _reap(child)
        if code is not None:
            return code, None
        readable, _, _ = select.select([0, wakeup], [], [])
        if 0 in readable:
            return None, os.read(0, 64)
        os.read(wakeup, 4096)


def _end(plan: Plan, child: int, wakeup: int, word: bytes) -> int:
    signal_all(os.getpid(), signal.SIGCONT)  # a frozen server hears nothing
    os.kill(child, plan["ending"])
    code = _wait_for_child(child, wakeup, time.monotonic() + (float(word) if word else ORPHANED_SECONDS))
    _kill_rest()
    if not word:
        for folder in plan["folders"]:
            shutil.rmtree(folder, ignore_errors=True)
    return -signal.SIGKILL if code is None else code


def _guard(plan: Plan) -> int:
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup, wake = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = _start(plan)
    code, word = _watch(child, wakeup)
    if word is not None:
        return _end(plan, child, wakeup, word)
    _kill_rest()
    return code or 0


def main() -> NoReturn:
    """Exits as the server did: its code, or 128 and the number of the signal that ended it."""
    code = _guard(json.loads(sys.argv[1]))
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
