"""The five backends that benchmarks probe, private and real, and the configuration that probes them."""

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

from exporter.demo.parts import App
from exporter.demo.servers import HOST, CeleryWorker, Postgres, Program, Queue, RabbitMQ, Redis
from exporter.demo.servers.python import ROOT

P = TypeVar("P", bound=Program)

WORKER = "worker@localhost"
TABLES = 40
"""So that the catalogue is not an empty one."""


class Backends:
    """PostgreSQL, Redis, RabbitMQ, a Celery worker and an HTTP service; started for the length of a block."""

    def __init__(self, *, plugins: tuple[str, ...] = (), rabbitmq: Mapping[str, str] | None = None) -> None:
        with ExitStack() as made:
            self.postgres = _kept(made, Postgres(seed=tuple(map(_table, range(TABLES)))))
            self.redis = _kept(made, Redis())
            queues = [Queue("orders"), Queue("celery")]
            self.rabbitmq = _kept(made, RabbitMQ(queues=queues, plugins=plugins, settings=rabbitmq))
            self.app = _kept(made, App())
            self.worker = _kept(made, CeleryWorker(self.rabbitmq.url, "tests.celery_app:app", node=WORKER, places=(ROOT,)))
            self._made = made.pop_all()

    def __enter__(self) -> Self:
        servers = (self.rabbitmq, self.postgres, self.redis, self.app)
        try:
            for server in servers:
                server.launch()
            for server in servers:
                server.ready(within=60.0)
            self.worker.start()
        except BaseException:
            self._made.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._made.close()

    @property
    def probes(self) -> dict[str, dict[str, object]]:
        """One probe of each type, by its type's name, with what an operator would collect."""
        return {
            "postgres": {
                "type": "postgres",
                "url": self.postgres.url,
                "collect": ["database", "activity", "locks", "replication", "settings"],
            },
            "redis": {"type": "redis", "url": self.redis.url, "collect": ["info"]},
            "rabbitmq": {"type": "rabbitmq", "url": self.rabbitmq.url, "queues": ["orders"]},
            "celery": {
                "type": "celery",
                "broker_url": self.rabbitmq.url,
                "workers": [WORKER],
                "queues": ["celery"],
                "enable_task_events": True,
            },
            "http": {"type": "http", "url": f"http://{HOST}:{self.app.port}/health"},
        }


def _kept(made: ExitStack, part: P) -> P:
    made.callback(part.close)
    return part


def _table(number: int) -> str:
    return f"CREATE TABLE orders_{number} (id int PRIMARY KEY, symbol text, price numeric)"
