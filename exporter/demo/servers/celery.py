"""A real Celery worker: `celery worker` as a child. Knows no broker but its URL, and does not import Celery."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from exporter.demo.servers.base import Program
from exporter.demo.servers.python import python, python_path, who_can_read_us

Pool = Literal["prefork", "threads", "solo"]


class CeleryWorker(Program):
    """A worker that consumes `queues` of a broker; ready once it says so, which is when it consumes.

    `app` is `module:name` of the Celery application, importable from the folders `places` or from beside our package; it finds
    the broker's URL in $CELERY_BROKER_URL, and may find more in `variables`. `node` is its whole node name, `name@host`.
    `events` are its task events (-E). `options` go to `celery worker`; by default the worker does not ask others for what
    they know, which takes it a second. A worker has no port: what reaches it goes through the broker.

    As root it runs as an unprivileged user where that one can read this interpreter, else, like the exporter itself, as us.
    """

    name = "celery"

    def __init__(  # noqa: PLR0913  # the options of `celery worker` that a test turns, by name
        self,
        broker_url: str,
        app: str,
        *,
        queues: Sequence[str] = ("celery",),
        node: str = "worker@localhost",
        concurrency: int = 2,
        pool: Pool = "prefork",
        events: bool = True,
        options: Sequence[str] = ("--without-mingle",),
        places: Sequence[Path] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(who_can_read_us())
        self.node = node
        self._app = app
        self._arguments = [
            *("--queues", ",".join(queues), "--hostname", node, "--concurrency", str(concurrency), "--pool", pool),
            *("--loglevel", "INFO", *(["--task-events"] if events else []), *options),
        ]
        self._variables = {"CELERY_BROKER_URL": broker_url, **python_path(*places), **(variables or {})}

    def command(self) -> list[str]:
        return python("celery", "--app", self._app, "--quiet", "worker", *self._arguments)

    def environment(self) -> dict[str, str]:
        return super().environment() | self._variables

    def is_ready(self) -> bool:
        return self.said(f"{self.node} ready.")
