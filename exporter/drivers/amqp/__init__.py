"""AMQP 0-9-1 over aiormq, which is what aio-pika's plain `connect` is made of: here it gets a line that we have opened ourselves.

`connect` gives a `Session`, a session gives a `Channel`; what goes wrong is a ProbeError, by `translate`. Knows no metric, no
probe and no schedule.
"""

from exporter.drivers.amqp.errors import Blocked, NotFound, translate
from exporter.drivers.amqp.line import Endpoint
from exporter.drivers.amqp.session import Channel, Depth, Login, Message, Outgoing, Server, Session, connect

__all__ = [
    "Blocked",
    "Channel",
    "Depth",
    "Endpoint",
    "Login",
    "Message",
    "NotFound",
    "Outgoing",
    "Server",
    "Session",
    "connect",
    "translate",
]
