"""What can be written under a probe of type echo. Knows no driver."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from exporter.model import Kind, Metric
from exporter.probes.base import ProbeSettings
from exporter.probes.fields import Count, Text

UP = Metric("echo_up", Kind.GAUGE, "Whether the last check succeeded: 1, or 0 when it failed.")
ROUND_TRIP = Metric("echo_round_trip_seconds", Kind.GAUGE, "Seconds from the first byte sent to the last one back.")


class EchoSettings(ProbeSettings):
    """A TCP server that sends back what it is told (RFC 862)."""

    up: ClassVar[Metric] = UP

    type: Literal["echo"]
    host: Annotated[Text, Field(description="Host name or address.")]
    port: Annotated[Count, Field(ge=1, le=65535, description="Port.")] = 7

    def declared(self) -> tuple[Metric, ...]:
        return (self.up, ROUND_TRIP)
