"""The exporter from outside: a child process, real servers, real faults, asked over HTTP."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from exporter.demo.servers import Postgres

CANARY = "c4nary-pa55w0rd"

PRIVATE = Callable[..., Awaitable[Postgres]]

ROOT = Path(__file__).parent.parent.parent
