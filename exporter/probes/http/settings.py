"""What can be written under a probe of type http. Knows no driver."""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from exporter.model import Kind, Metric
from exporter.probes.address import Server, parse_server
from exporter.probes.base import ProbeSettings, Settings
from exporter.probes.fields import Flag, SecretText, Text, written
from exporter.probes.http.metrics import DECLARED
from exporter.secret import Secret, one_line

UP = Metric("probe_success", Kind.GAUGE, "Whether the last check got the expected answer: 1, or 0 when it failed.")

SCHEMES = ("http", "https")
DEFAULT_PORTS = {"http": 80, "https": 443}

Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
_AnyCase = Annotated[
    str, written("Method", "|".join("".join(f"[{letter}{letter.lower()}]" for letter in word) for word in get_args(Method)))
]
_StatusText = Annotated[str, written("Status", "[1-5]([xX]{2}|[0-9]{2})", "2xx", "204")]
_StatusNumber = Annotated[int, Field(ge=100, le=599)]

_STATUS = re.compile(r"[1-5](?:xx|[0-9]{2})")
_HOST = re.compile(r"[^\s/?#@\\%<>\"{}|^`,;=()]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FRAMING = frozenset({"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
"""Headers that say how a message travels: ours to write."""


def _status(value: object) -> str:
    text = value.lower() if isinstance(value, str) else str(value)
    if isinstance(value, bool) or not _STATUS.fullmatch(text):
        raise ValueError("not an HTTP status; write 200 or a class such as 2xx")
    return text


def _one_or_many(value: object) -> object:
    if value in ([], ()):
        raise ValueError("needs at least one status, such as 2xx")
    return [value] if isinstance(value, str | int) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


def _url(url: Secret) -> Secret:
    server = parse_server(url, SCHEMES)
    if url.reveal().strip().partition("://")[0].lower() not in SCHEMES:  # http+unix://, which parse_server would take
        raise ValueError("not a URL of this type; it begins with http:// or https://")
    if not _HOST.fullmatch(server.host):
        raise ValueError("names no host that could be looked up" if server.host else "names no host")
    if ":" in (server.username or ""):
        raise ValueError("a user name for basic authentication cannot hold a colon")  # RFC 7617, section 2
    return url


def _headers(headers: dict[str, Secret]) -> dict[str, Secret]:
    seen = Counter(name.lower() for name in headers)
    problems = [problem for name, value in headers.items() for problem in _header_problems(name, value, seen)]
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return headers


def _header_problems(name: str, value: Secret, seen: Counter[str]) -> Iterator[str]:
    shown = one_line(name, 40)
    if not _TOKEN.fullmatch(name):
        yield f"`{shown}` is not a header name; it holds letters, digits and a few signs such as `-`"
    if name.lower() in _FRAMING:
        yield f"{shown} is written by the exporter itself"
    if seen[name.lower()] > 1:
        yield f"{name.lower()} stands twice; case makes no difference"
    if _CONTROL.search(value.reveal()):
        yield f"the value of {shown} holds a line break or another control character"


def _bearer(token: Secret) -> Secret:
    if not token or _CONTROL.search(token.reveal()) or " " in token.reveal():
        raise ValueError("a bearer token is not empty and holds no space, line break or other control character")
    return token


def _username(name: str) -> str:
    if ":" in name:
        raise ValueError("a user name for basic authentication cannot hold a colon")  # RFC 7617, section 2
    return name


StatusPattern = Annotated[str, BeforeValidator(_status, json_schema_input_type=_StatusText | _StatusNumber)]
_Statuses = StatusPattern | Annotated[tuple[StatusPattern, ...], Field(min_length=1)]
Pattern = Annotated[Text, AfterValidator(_pattern)]
BearerToken = Annotated[SecretText, AfterValidator(_bearer)]


class BasicAuth(Settings):
    """Credentials sent as HTTP basic authentication, to the configured host alone."""

    username: Annotated[Text, AfterValidator(_username), Field(description="User name.")]
    password: Annotated[SecretText, Field(description="Password.")]


class HttpSettings(ProbeSettings):
    """An HTTP or HTTPS endpoint. `user:password@` in the URL, percent-decoded, is sent as basic authentication."""

    up: ClassVar[Metric] = UP

    type: Literal["http"]
    url: Annotated[
        SecretText,
        AfterValidator(_url),
        Field(description="Address to ask, http:// or https://."),
    ]
    method: Annotated[
        Method, BeforeValidator(_upper, json_schema_input_type=Method | _AnyCase), Field(description="Method of the request.")
    ] = "GET"
    headers: Annotated[
        dict[str, SecretText],
        AfterValidator(_headers),
        Field(description="Headers of the request, Host included. A host we are redirected to gets Accept and User-Agent alone."),
    ] = {}
    body: Annotated[SecretText | None, Field(description="Body of the request, for methods that take one.")] = None
    expect_status: Annotated[
        tuple[StatusPattern, ...],
        BeforeValidator(_one_or_many, json_schema_input_type=_Statuses),
        Field(description="Statuses that are good: numbers, or classes such as 2xx."),
    ] = ("2xx",)
    body_regex: Annotated[
        Pattern | None, Field(description="Must be found in the first MiB of the body, within 0.1 s of processor time.")
    ] = None
    not_body_regex: Annotated[Pattern | None, Field(description="Must not be found there.")] = None
    follow_redirects: Annotated[
        Flag, Field(description="Follow redirects, ten at most; credentials go to the configured scheme, host and port alone.")
    ] = True
    basic_auth: Annotated[BasicAuth | None, Field(description="Credentials for basic authentication.")] = None
    bearer_token: Annotated[BearerToken | None, Field(description="Token for bearer authentication.")] = None

    def declared(self) -> tuple[Metric, ...]:
        return (self.up, *DECLARED)

    @property
    def server(self) -> Server:
        """Where to ask and as whom, the scheme's default port included."""
        server = parse_server(self.url, SCHEMES)
        return replace(server, port=server.port or DEFAULT_PORTS[server.scheme])

    @property
    def address(self) -> Secret:
        """The URL without its userinfo; its path and query as written."""
        scheme, _, rest = self.url.reveal().strip().partition("://")
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        return Secret(f"{scheme.lower()}://{authority.rpartition('@')[2]}{rest[len(authority) :]}")

    @property
    def authorization(self) -> Secret | None:
        """The value of the Authorization header: basic (RFC 7617, in UTF-8) or bearer (RFC 6750), None without credentials."""
        if self.bearer_token is not None:
            return Secret(f"Bearer {self.bearer_token.reveal()}")
        if self.basic_auth is not None:
            return _basic(self.basic_auth.username, self.basic_auth.password)
        server = self.server
        if server.username is None and server.password is None:
            return None
        return _basic(server.username or "", server.password or Secret(""))

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = "; ".join(self._conflicts())
        if problems:
            raise ValueError(problems)
        return self

    def _conflicts(self) -> Iterator[str]:
        ways = {
            "basic_auth": self.basic_auth is not None,
            "bearer_token": self.bearer_token is not None,
            "an Authorization header": any(name.lower() == "authorization" for name in self.headers),
            "a user in the url": self.server.username is not None or self.server.password is not None,
        }
        given = [way for way, used in ways.items() if used]
        if len(given) > 1:
            yield f"{' and '.join(given)} exclude each other; give one"
        if self.body is not None and self.method in ("GET", "HEAD"):
            yield f"{self.method} takes no body; use method: POST, or leave body out"
        if self.body_regex is not None and self.method == "HEAD":
            yield "an answer to HEAD has no body in which body_regex could be found"


def _basic(username: str, password: Secret) -> Secret:
    return Secret(f"Basic {b64encode(f'{username}:{password.reveal()}'.encode()).decode()}")
