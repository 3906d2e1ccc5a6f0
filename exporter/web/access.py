"""Who may see details and change state: one bearer token, compared in constant time. Knows no request and no route."""

import hmac

from exporter.config import Web


class Access:
    """Judges `Authorization` headers against the configured token; frozen once made."""

    __slots__ = ("_details_for_all", "_token")

    def __init__(self, web: Web) -> None:
        self._token = None if web.token is None else web.token.reveal().encode("utf-8", "surrogateescape")
        self._details_for_all = web.details == "always"

    @property
    def has_token(self) -> bool:
        """Whether a token is configured; without one nothing is ever permitted."""
        return bool(self._token)

    def permits(self, authorization: str | None) -> bool:
        """Whether the header carries the token as `Bearer TOKEN` (RFC 6750 2.1); any other header simply does not."""
        if not self._token or authorization is None:
            return False
        scheme, _, token = authorization.strip().partition(" ")
        # aiohttp decodes header bytes with surrogateescape, so this gives back the bytes as they came
        given = token.strip().encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self._token) and scheme.lower() == "bearer"

    def shows_details(self, authorization: str | None) -> bool:
        """Whether messages and details may be told to the sender of this header."""
        return self._details_for_all or self.permits(authorization)
