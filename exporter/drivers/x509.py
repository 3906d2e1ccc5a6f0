"""Reads the one fact we need of certificates, the moment they end. Knows no socket and verifies nothing: OpenSSL did.

The standard library decodes a certificate only after it was verified, and only the server's own; the end of an intermediate,
or of a certificate accepted unverified, has to be read from its DER (RFC 5280, section 4.1).
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_VERSION = 0xA0  # [0] EXPLICIT; absent in certificates of version 1
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_ENCODING_DER = 2  # _ssl.ENCODING_DER


def earliest_expiry(connection: ssl.SSLObject) -> float | None:
    """Unix seconds at which the first of the certificates that the peer sent ends; None when none can be read."""
    ends = [end for end in map(not_after, _chain(connection)) if end is not None]
    return min(ends, default=None)


def _chain(connection: ssl.SSLObject) -> list[bytes]:
    # public since Python 3.13; in 3.11 and 3.12 it stands, since 3.10, on the object beneath, with objects in the list
    holder = connection if hasattr(connection, "get_unverified_chain") else getattr(connection, "_sslobj", None)
    get_chain = getattr(holder, "get_unverified_chain", None)
    chain = get_chain() if get_chain is not None else None
    if chain:
        return [part if isinstance(part, bytes) else part.public_bytes(_ENCODING_DER) for part in chain]
    own = connection.getpeercert(binary_form=True)
    return [own] if own else []


def not_after(der: bytes) -> float | None:
    """Unix seconds of a certificate's notAfter; None for bytes that are no certificate."""
    try:
        _, certificate = next(_elements(der))
        _, to_be_signed = next(_elements(certificate))
        fields = [content for tag, content in _elements(to_be_signed) if tag != _VERSION]
        validity = fields[3]  # after serialNumber, signature, issuer
        _, (tag, time) = _elements(validity)
        return _moment(tag, time.decode("ascii"))
    except (IndexError, StopIteration, ValueError):
        return None


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element in turn."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        yield tag, der[at : at + length]
        at += length


def _moment(tag: int, text: str) -> float:
    """Unix seconds of `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the only forms of a certificate (RFC 5280, section 4.1.2.5)."""
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    year, rest = int(text[:4]), text[4:14]
    month, day, hour, minute, second = (int(rest[at : at + 2]) for at in range(0, 10, 2))
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
