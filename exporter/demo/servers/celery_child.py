"""Runs a Celery worker: `python -m exporter.demo.servers.celery_child MODULE:APP [UID GID] -- OPTIONS OF CELERY WORKER`.

As root it gives up its rights before it connects anywhere. Celery imports much when it is first needed, and the interpreter may
stand where only root can read it: so what a worker needs is imported before. Says `celery_child: ready` once it consumes.
"""

import sys
from importlib import import_module

from celery import Celery
from celery.signals import worker_ready

from exporter.demo.servers.python import become

_NEEDED = (
    "celery.app.control",
    "celery.app.events",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.events.state",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.agent",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.control",
    "celery.worker.strategy",
)


def main(words: list[str]) -> None:
    split = words.index("--")
    name, *who = words[:split]
    module, _, attribute = name.partition(":")
    app: Celery = getattr(import_module(module), attribute)
    _import_what_is_needed(app)
    if who:
        uid, gid = map(int, who)
        become(uid, gid)
    worker_ready.connect(_say_ready)
    app.worker_main(["worker", *words[split + 1 :]])


def _say_ready(**_: object) -> None:
    print("celery_child: ready", file=sys.stderr, flush=True)  # noqa: T201  # the launcher reads it


def _import_what_is_needed(app: Celery) -> None:
    for module in _NEEDED:
        import_module(module)
    app.finalize()
    app.connection_for_read().transport  # noqa: B018  # importing the broker's client is what it does


if __name__ == "__main__":
    main(sys.argv[1:])
