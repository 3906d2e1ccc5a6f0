"""A target's address: the parts of its URL, with fields written beside the URL winning over them. Knows no driver."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import ConfigDict

from exporter.secret import Secret

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""Values of `sslmode=`; those from `require` on never go on without TLS (PostgreSQL 17 manual, 32.1.2)."""

HIGHEST_PORT = 65535

URL_OR_HOST = ConfigDict(json_schema_extra={"anyOf": [{"required": ["url"]}, {"required": ["host"]}]})
"""For editors: what `server` of such settings demands."""

_TLS_SCHEMES = ("https", "rediss", "amqps")
_TLS_SSLMODES = SSLMODES[SSLMODES.index("require") :]
_USERINFO_PASSWORD = re.compile(r"://[^/?#\s:]*:([^/?#\s]*)@")

_UNREADABLE = (
    "the host or port cannot be read; percent-encode `@ : / # ?` in the password, or write it as `password:` beside the url"
)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a target is and as whom to log in. `path` is percent-decoded, without its leading slash, empty when absent."""

    scheme: str
    host: str
    port: int | None
    username: str | None = None
    password: Secret | None = None
    path: str = field(default="", repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether a plain connection to it stays on this machine; a path is a Unix socket."""
        if self.host in ("localhost", "") or self.host.startswith("/"):
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def demands_tls(self) -> bool:
        """Whether the URL by itself rules a plain connection out."""
        return self.scheme in _TLS_SCHEMES or self.sslmode in _TLS_SSLMODES

    @property
    def permits_plain(self) -> bool:
        """Whether the URL by itself asks for a connection that is plain, or may be."""
        return self.scheme == "http" or (self.sslmode is not None and not self.demands_tls)

    @property
    def sslmode(self) -> str | None:
        """What the URL asks for; SQLAlchemy's asyncpg dialect calls it `ssl`."""
        return self.query.get("sslmode") or self.query.get("ssl")

    def overridden(  # one argument for each part of an address
        self,
        *,
        host: str | None,
        port: int | None,
        username: str | None,
        password: Secret | None,
        path: str | None,
        default_port: int,
    ) -> "Server":
        """The same server with the given parts instead of its own, and `default_port` where no port is known."""
        return replace(
            self,
            host=self.host if host is None else host,
            port=port or self.port or default_port,
            username=self.username if username is None else username,
            password=self.password if password is None else password,
            path=self.path if path is None else path,
        )


def parse_server(url: Secret, schemes: tuple[str, ...]) -> Server:
    """The parts of a URL; `postgresql+asyncpg://` (SQLAlchemy) counts as `postgresql://`.

    Raises:
        ValueError: with a sentence that names no part of the URL but its scheme, host and port.
    """
    text = url.reveal().strip()
    if not text:
        raise ValueError("is empty")
    scheme, colon, _ = text.partition("://")
    base = scheme.partition("+")[0].lower()
    if not colon or base not in schemes:
        raise ValueError(f"not a URL of this type; it begins with {' or '.join(f'{s}://' for s in schemes)}")
    parts, port = _split(base + text[len(scheme) :])
    return Server(
        scheme=base,
        host=unquote(parts.hostname or ""),
        port=port,
        username=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
        path=unquote(parts.path[1:]),
        query=dict(parse_qsl(parts.query, keep_blank_values=True)),
    )


def passwords_in(text: str) -> Iterator[str]:
    """The password of a URL, as it is written and percent-decoded; nothing for a text that is no URL or holds none."""
    for match in _USERINFO_PASSWORD.finditer(text):
        yield match[1]
        yield unquote(match[1])


def _split(text: str) -> tuple[SplitResult, int | None]:
    """The parts and the port of a URL.

    Raises:
        ValueError: with the sentence for the user; a piece of a password is never taken for a port and shown.
    """
    if re.search(r"[\s\x00-\x1f]", text):
        raise ValueError("holds white space; percent-encode it, a blank as %20")
    authority, *rest = re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)
    cut = "@" in "".join(rest)
    if cut and not text.startswith("http"):
        raise ValueError(_UNREADABLE)  # an unescaped `/`, `?` or `#` has cut a password in two
    hosts = authority.rpartition("@")[2]
    if "," in hosts:
        raise ValueError("names several hosts; name one, and make a probe for each")
    port = hosts.rpartition(":")[2]
    if re.fullmatch(r"[0-9]{1,9}", port) and not cut and not 1 <= int(port) <= HIGHEST_PORT:
        raise ValueError(f"port {port} is {'below 1' if int(port) == 0 else f'above {HIGHEST_PORT}'}")
    with suppress(ValueError):
        parts = urlsplit(text)
        return parts, parts.port
    raise ValueError(_UNREADABLE)  # raised out here, so that urllib's error, which quotes the port, is not its context
