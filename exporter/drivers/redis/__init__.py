"""Redis and Valkey: opening a connection, asking, and what went wrong, over redis-py's connection and parsers (redis.asyncio).

redis-py's own client, pool, retries, health checks, timeouts and name lookups are not used: the engine has each of them
once. Everything a server says is framed (`framing`) before redis-py's parser sees it.
"""

from exporter.drivers.redis.errors import translate, translated
from exporter.drivers.redis.line import Endpoint
from exporter.drivers.redis.session import (
    CLIENT_NAME,
    Answer,
    Command,
    Greeting,
    Login,
    Message,
    Reply,
    Session,
    connect,
    greeting_of,
)

__all__ = [
    "CLIENT_NAME",
    "Answer",
    "Command",
    "Endpoint",
    "Greeting",
    "Login",
    "Message",
    "Reply",
    "Session",
    "connect",
    "greeting_of",
    "translate",
    "translated",
]
