"""A monitor of Celery as most are: asks the workers by Celery's own `inspect` at each scrape, and listens to their events.

A stand-in, lighter than the exporters it stands for: no web framework, no history of tasks. `celery_poller.py PORT QUEUE BROKER`.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from celery import Celery
from prometheus_client import Counter, start_http_server
from prometheus_client.core import REGISTRY, GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter.demo.servers import HOST

EVENTS = Counter("celery_events_total", "Events of workers and tasks.", ["type"])
INSPECT_SECONDS = 1.0
"""How long `inspect` waits for whoever may yet answer: Celery's own default."""


class Workers(Collector):
    """Asks at each scrape."""

    def __init__(self, app: Celery, queue: str) -> None:
        self._app = app
        self._queue = queue

    def collect(self) -> Iterator[GaugeMetricFamily]:
        inspect = self._app.control.inspect(timeout=INSPECT_SECONDS)
        active = inspect.active() or {}
        queues = inspect.active_queues() or {}
        tasks = GaugeMetricFamily("celery_worker_tasks_active", "Tasks a worker is at.", labels=["hostname"])
        for name, running in active.items():
            tasks.add_metric([name], len(running))
        yield tasks
        yield GaugeMetricFamily("celery_active_consumers", "Workers that consume a queue.", sum(map(len, queues.values())))
        with self._app.connection_for_read() as connection:
            channel: Any = connection.channel()  # the broker's own kind, which celery-types does not tell
            length = channel.queue_declare(self._queue, passive=True).message_count
        yield GaugeMetricFamily("celery_queue_length", "Messages that wait.", length)


def listen(app: Celery) -> None:
    """Counts events, again after a second when the broker has gone."""
    while True:
        with suppress(OSError), app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": lambda event: EVENTS.labels(event["type"]).inc()})
            receiver.capture(limit=None, timeout=None, wakeup=True)
        time.sleep(1.0)


def main(port: int, queue: str, broker: str) -> None:
    """Serves until it is ended."""
    app = Celery(broker=broker)
    threading.Thread(target=listen, args=(app,), daemon=True).start()
    REGISTRY.register(Workers(app, queue))
    start_http_server(port, HOST)
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
