"""Who may see details and change state: one bearer token, compared in constant time. Knows no request and no route."""

import hmac
from collections.abc import Callable

from exporter.config import Web


class Access:
    """Judges `Authorization` headers by what `web` gives at that moment: a reload may bring another token."""

    __slots__ = ("_web",)

    def __init__(self, web: Callable[[], Web]) -> None:
        self._web = web

    @property
    def has_token(self) -> bool:
        """Whether a token is configured; without one nothing is ever permitted."""
        return bool(self._web().token)

    def permits(self, authorization: str | None) -> bool:
        """Whether the header carries the token as `Bearer TOKEN` (RFC 6750 2.1); any other header simply does not."""
        token = self._web().token
        if not token or authorization is None:
            return False
        scheme, _, given = authorization.strip().partition(" ")
        return hmac.compare_digest(_bytes(given.strip()), _bytes(token.reveal())) and scheme.lower() == "bearer"

    def shows_details(self, authorization: str | None) -> bool:
        """Whether messages and details may be told to the sender of this header."""
        return self._web().details == "always" or self.permits(authorization)


def _bytes(text: str) -> bytes:
    """As they came: aiohttp decodes header bytes with surrogateescape."""
    return text.encode("utf-8", "surrogateescape")
