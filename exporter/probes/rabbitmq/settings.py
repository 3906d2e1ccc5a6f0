"""What can be written under a probe of type rabbitmq. Knows no driver."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from exporter.model import Kind, Metric
from exporter.probes.address import URL_OR_HOST, Server, parse_server
from exporter.probes.base import ProbeSettings, RetryPreset
from exporter.probes.fields import Count, SecretText, Text

SCHEMES = ("amqp", "amqps")
DEFAULT_PORT, DEFAULT_TLS_PORT = 5672, 5671
DEFAULT_VHOST = "/"
CONNECTIONS = 2
"""One that speaks and one that looks: an alarm of the broker silences every connection that has published."""
LONGEST_NAME_BYTES = 255
"""Of a queue (AMQP 0-9-1, 4.2.5.3: a short string)."""

UP = Metric("rabbitmq_up", Kind.GAUGE, "Whether the last check succeeded: 1, or 0 when it failed.")
MESSAGES_READY = Metric(
    "rabbitmq_queue_messages_ready",
    Kind.GAUGE,
    "Messages ready for delivery, from queue.declare (passive); those delivered and not yet acknowledged are not among them.",
    ("vhost", "queue"),
)
CONSUMERS = Metric(
    "rabbitmq_queue_consumers", Kind.GAUGE, "Consumers of the queue, from queue.declare (passive).", ("vhost", "queue")
)


def _queues(names: tuple[str, ...]) -> tuple[str, ...]:
    for place, name in enumerate(names):
        if not 0 < len(name.encode()) <= LONGEST_NAME_BYTES:
            raise ValueError(f"a queue's name has 1 to {LONGEST_NAME_BYTES} bytes")
        if name in names[:place]:
            raise ValueError(f"names the queue {name} twice")
    return names


class RabbitmqSettings(ProbeSettings):
    """One virtual host of a RabbitMQ broker. Needs a `url` or a `host`; keys beside the URL win over its parts, taken literally."""

    model_config = URL_OR_HOST
    up: ClassVar[Metric] = UP
    default_retry: ClassVar[RetryPreset] = "steady"

    type: Literal["rabbitmq"]
    url: Annotated[SecretText | None, Field(description="amqp://user:password@host:port/vhost, or amqps:// for TLS.")] = None
    host: Annotated[Text | None, Field(description="Host name or address; default localhost where the url names none.")] = None
    port: Annotated[Count | None, Field(ge=1, le=65535, description="Port; default 5672, or 5671 with TLS.")] = None
    username: Annotated[Text | None, Field(description="User; default guest.")] = None
    password: Annotated[SecretText | None, Field(description="Its password, literally; default guest.")] = None
    vhost: Annotated[Text | None, Field(min_length=1, description="Virtual host, literally; default /.")] = None
    queues: Annotated[
        tuple[Text, ...],
        AfterValidator(_queues),
        Field(description="Queues to look at; while one of them is missing the probe is degraded."),
    ] = ()

    def declared(self) -> tuple[Metric, ...]:
        return (self.up, MESSAGES_READY, CONSUMERS)

    def connections(self) -> int | None:
        return CONNECTIONS

    @property
    def server(self) -> Server:
        """Where to connect and as whom, fields beside the URL included; `path` is the virtual host.

        Raises:
            ValueError: the URL cannot be read, or neither a url nor a host is given; with a sentence for the user.
        """
        url = parse_server(self.url, SCHEMES) if self.url is not None else None
        if url is None and self.host is None:
            raise ValueError("needs a url or a host")
        base = url or Server(SCHEMES[0], "", None)
        server = base.overridden(
            host=self.host or base.host or "localhost",
            port=self.port,
            username=self.username,
            password=self.password,
            path=self.vhost or base.path or DEFAULT_VHOST,
            default_port=DEFAULT_TLS_PORT if self._encrypts(base) else DEFAULT_PORT,
        )
        if "," in server.host:
            raise ValueError("names more than one host; write a probe for each")
        return server

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken: with amqps:// or `tls:`, and then always verified unless `tls:` says otherwise.

        Raises:
            ValueError: as `server`.
        """
        return self._encrypts(self.server)

    def _encrypts(self, server: Server) -> bool:
        return server.demands_tls or self.tls is not None
