"""A target's address: the parts of its URL, with fields written beside the URL winning over them. Knows no driver."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from exporter.secret import Secret


@dataclass(frozen=True, slots=True)
class Server:
    """Where a target is and as whom to log in. `path` is percent-decoded, without its leading slash, empty when absent."""

    scheme: str
    host: str
    port: int | None
    username: str | None = None
    password: Secret | None = None
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether a plain connection to it stays on this machine."""
        return self.host in ("localhost", "::1", "") or self.host.startswith(("127.", "/"))

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
    scheme, colon, _ = text.partition("://")
    base = scheme.partition("+")[0].lower()
    if not colon or base not in schemes:
        raise ValueError(f"not a URL of this type; it begins with {' or '.join(f'{s}://' for s in schemes)}")
    try:
        parts = urlsplit(base + text[len(scheme) :])
        host = unquote(parts.hostname or "")
        port = parts.port
    except ValueError as error:
        raise ValueError(_url_problem(text)) from error
    return Server(
        scheme=base,
        host=host,
        port=port,
        username=unquote(parts.username) if parts.username else None,
        password=Secret(unquote(parts.password)) if parts.password else None,
        path=unquote(parts.path[1:]),
        query=dict(parse_qsl(parts.query, keep_blank_values=True)),
    )


def _url_problem(text: str) -> str:
    authority = text.partition("://")[2].partition("/")[0].rpartition("@")[2]
    port = authority.rpartition(":")[2]
    if port.isdigit():
        return f"port {port} is above 65535"
    return "the host or port cannot be read; percent-encode `@ : / # ?` in the password, or write it as `password:` beside the url"
