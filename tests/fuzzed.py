"""Requests that a client library could send, made of what our paths, queries and headers consist of and of what they do not.

Every one holds MARK, which must come back nowhere. The same seed gives the same requests.
"""

import random
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from tests.malformed import MARK

VERBS = (b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"PROPFIND")
PATHS = tuple(
    b"""/ /health /api/v1/health /health.txt /health/p0 /livez /readyz /startupz /-/healthy /-/ready /metrics /api/v1/metrics
    /api/v1/probes /api/v1/probes/p0 /api/v1/probes/p0/history /api/v1/probes/p0/run /api/v1/circuits /api/v1/circuits/p0
    /-/reload /favicon.ico""".split()
)
PIECES = (
    *rb""". .. %2e%2e %00 %0d%0aX-Injected:%201 % %zz %ff%fe %C3%A9 %F0%9F%A6%8A %2F {name} * ; p0 P0 p0%20 \ ~ $(id) ' " <script>
    | + =""".split(),
    MARK,
    b"",
    b"a" * 500,
)
KEYS = (b"probe", b"format", b"exclude", b"strict", b"name", b"match[]", MARK, b"")
VALUES = (*PIECES, b"p0", b"p0,p1", b"json", b"text", b"html", b"JSON", b"1", b"no", b"p0&probe=p1", b"," * 300)
HEADERS = tuple(
    b"""Accept Accept-Encoding Accept-Language Authorization Cookie Range If-None-Match If-Modified-Since Content-Type Origin
    Referer TE User-Agent X-Forwarded-For X-HTTP-Method-Override""".split()
)
HEADER_VALUES = (
    *rb"""*/* text/html text/plain;version=0.0.4;q=0.5,*/*;q=0.1 application/openmetrics-text;version=1.0.0 gzip *;q=0 ;;;,,, q=1e9
    identity;q=0,gzip;q=nan bytes=0-5 DELETE \xff""".split(),
    MARK,
    b"",
    b"Bearer " + MARK,
    b"Basic !!!",
    b"\xff\xfe\x80",
    b'"' * 50,
    b'"\\' * 2000,
    b"a/b;q=0.1," * 700,
)
_VITAL = (b"/health", b"/api/v1/health", b"/livez", b"/readyz", b"/startupz", b"/-/healthy", b"/-/ready")


def requests(number: int, seed: int) -> Iterator[bytes]:
    """So many, each whole and with its body."""
    chance = random.Random(seed)
    for _ in range(number):
        body = chance.choice((b"", b"", b"{}", MARK, b"a" * 5000))
        headers = [b"Host: " + chance.choice((b"x", MARK, b"127.0.0.1:1", b"[::1]")), b"X-Mark: " + MARK]
        headers += [b"%s: %s" % (name, chance.choice(HEADER_VALUES)) for name in chance.sample(HEADERS, chance.randint(0, 4))]
        headers += [b"Content-Length: %d" % len(body)] * bool(body)
        headers += chance.choice(([], [], [b"Connection: close"], [b"Expect: 100-continue"] * bool(body)))
        line = b"%s %s HTTP/1.%d" % (chance.choice(VERBS), _target(chance), chance.choice((1, 1, 1, 0)))
        yield b"\r\n".join((line, *headers, b"", body))


def _target(chance: random.Random) -> bytes:
    path = chance.choice(PATHS)
    for _ in range(chance.choice((0, 0, 1, 2))):
        path += chance.choice((b"/", b"", b"//")) + chance.choice(PIECES)
    if chance.random() < 0.1:
        path = b"".join(b"%%%02x" % byte if byte != 0x2F and chance.random() < 0.3 else bytes([byte]) for byte in path)
    pairs = [b"%s=%s" % (chance.choice(KEYS), chance.choice(VALUES)) for _ in range(chance.choice((0, 0, 1, 2, 30)))]
    return path + (b"?" + b"&".join(pairs) if pairs else b"")


def may_be_503(request: bytes) -> bool:
    """Whether it asks for health or a self-check, which have 503 as an answer."""
    path = request.split(b" ")[1].partition(b"?")[0]
    return unquote_to_bytes(path).startswith(_VITAL)
