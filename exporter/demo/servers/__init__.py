"""Starts the real servers that the demo shows and the tests probe: private, on loopback, gone with whoever started them.

One file per server, all on `base.py`. Knows no configuration and no probe. All calls block: from a loop use a thread.
"""

from exporter.demo.servers.base import (
    HOST,
    Account,
    Certificate,
    MissingServer,
    Program,
    Server,
    ServerFailed,
    is_listening,
    reserve_port,
    unprivileged,
)
from exporter.demo.servers.celery import CeleryWorker
from exporter.demo.servers.postgres import Postgres, find_postgres
from exporter.demo.servers.rabbitmq import Queue, RabbitMQ, User, find_rabbitmq
from exporter.demo.servers.redis import Redis, find_redis

__all__ = [
    "HOST",
    "Account",
    "CeleryWorker",
    "Certificate",
    "MissingServer",
    "Postgres",
    "Program",
    "Queue",
    "RabbitMQ",
    "Redis",
    "Server",
    "ServerFailed",
    "User",
    "find_postgres",
    "find_rabbitmq",
    "find_redis",
    "is_listening",
    "reserve_port",
    "unprivileged",
]
