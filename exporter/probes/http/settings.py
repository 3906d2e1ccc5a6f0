"""What can be written under a probe of type http. Knows no driver."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from exporter.model import Kind, Metric
from exporter.probes.address import Server, parse_server
from exporter.probes.base import ProbeSettings, Settings
from exporter.probes.fields import Flag, SecretText, Text
from exporter.probes.http.metrics import DECLARED

SCHEMES = ("http", "https")

UP = Metric("probe_success", Kind.GAUGE, "Whether the last check got the expected answer: 1, or 0 when it failed.")

_STATUS = re.compile(r"[1-5](?:xx|[0-9]{2})")


def _status(value: object) -> str:
    text = str(value)
    if not _STATUS.fullmatch(text):
        raise ValueError("not an HTTP status; write 200 or a class such as 2xx")
    return text


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


StatusPattern = Annotated[str, BeforeValidator(_status)]
Pattern = Annotated[Text, AfterValidator(_pattern)]


class BasicAuth(Settings):
    """Credentials sent as HTTP basic authentication, to the configured host alone."""

    username: Annotated[Text, Field(description="User name.")]
    password: Annotated[SecretText, Field(description="Password.")]


class HttpSettings(ProbeSettings):
    """An HTTP or HTTPS endpoint."""

    up: ClassVar[Metric] = UP

    type: Literal["http"]
    url: Annotated[SecretText, Field(description="http:// or https:// address to ask.")]
    method: Annotated[Literal["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"], Field(description="Request method.")] = (
        "GET"
    )
    headers: Annotated[dict[str, SecretText], Field(description="Request headers.")] = {}
    body: Annotated[SecretText | None, Field(description="Request body.")] = None
    expect_status: Annotated[
        tuple[StatusPattern, ...], Field(min_length=1, description="Statuses that are good, such as 2xx or 204.")
    ] = ("2xx",)
    body_regex: Annotated[Pattern | None, Field(description="Must be found in the body.")] = None
    not_body_regex: Annotated[Pattern | None, Field(description="Must not be found in the body.")] = None
    follow_redirects: Annotated[Flag, Field(description="Follow redirects, ten at most.")] = True
    basic_auth: Annotated[BasicAuth | None, Field(description="Basic authentication.")] = None
    bearer_token: Annotated[SecretText | None, Field(description="Bearer token.")] = None

    def declared(self) -> tuple[Metric, ...]:
        return (self.up, *DECLARED)

    @property
    def server(self) -> Server:
        """Where the request goes.

        Raises:
            ValueError: the URL cannot be read; with a sentence for the user.
        """
        server = parse_server(self.url, SCHEMES)
        if not server.host:
            raise ValueError("names no host")
        return server
