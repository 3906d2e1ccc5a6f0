"""Children that run our own modules under this interpreter. Knows no server."""

import json
import os
import sys
from pathlib import Path

from exporter.demo.guard import die_with
from exporter.demo.servers.base import Account, unprivileged

ROOT = Path(__file__).parents[3]
"""Where our package stands."""


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module."""
    return [sys.executable, "-P", "-m", module, *arguments]


def python_path(*places: Path) -> dict[str, str]:
    """Where a child of another folder finds our package, unless it is installed, and `places` before it."""
    ours = () if ROOT.name in {"site-packages", "dist-packages"} else (ROOT,)
    found = os.pathsep.join(map(str, (*places, *ours)))
    return {"PYTHONPATH": found} if found else {}


def who_can_read_us() -> Account:
    """The unprivileged user, where that one can read this interpreter and our package; else whoever we are."""
    account = unprivileged()
    needed = (Path(sys.executable).resolve(), Path(sys.prefix), Path(json.__file__).parent, ROOT)
    return account if all(map(account.reaches, needed)) else Account("")


def identity(account: Account) -> list[str]:
    """The account as arguments for a child that calls `become` with them; none to stay who we are."""
    return [] if account.uid is None else [str(account.uid), str(account.gid)]


def become(uid: int, gid: int) -> None:
    """Gives up root's rights for good, in a process of one thread whose parent is the guard.

    A Python child does this itself, and not its guard for it: the interpreter may stand where only root can read it, so
    that all it needs must be imported before.
    """
    parent = os.getppid()
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    die_with(parent)
