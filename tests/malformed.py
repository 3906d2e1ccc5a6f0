"""What is sent to an HTTP port without being a request, or being one that nobody means well with: each with the codes it may get.

An empty tuple: the connection may end without an answer. Every case holds MARK, which must come back nowhere.
"""

from dataclasses import dataclass

MARK = b"zq7mark"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    request: bytes
    codes: tuple[int, ...] = (400,)


def _get(path: bytes = b"/livez", version: bytes = b"HTTP/1.1", headers: bytes = b"") -> bytes:
    return b"GET %s %s\r\nHost: %s\r\nConnection: close\r\n%s\r\n" % (path, version, MARK, headers)


def _post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST /-/reload HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n%s" % (MARK, headers, body)


_CHUNKED = b"Transfer-Encoding: chunked\r\n"

CASES = (
    # the request line
    Case("a verb that nobody knows", b"FOO /%s HTTP/1.1\r\nHost: x\r\n\r\n" % MARK, (405,)),
    Case("a verb of RTSP", b"DESCRIBE /%s HTTP/1.1\r\nHost: x\r\n\r\n" % MARK, (405,)),
    Case("a verb without end", b"F" * 9000 + b" /%s HTTP/1.1\r\nHost: x\r\n\r\n" % MARK, (405,)),
    Case("a verb in lower case", b"get /%s HTTP/1.1\r\nHost: x\r\n\r\n" % MARK, (405,)),
    Case("a verb with a control character", b"G\x01T /%s HTTP/1.1\r\n\r\n" % MARK),
    Case("CONNECT to a host", b"CONNECT %s:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % MARK, (405,)),
    Case("CONNECT to a path", b"CONNECT /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % MARK, (400, 405)),
    Case("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % MARK, (405,)),
    Case("no path but a star", _get(b"*")),
    Case("no slash", _get(MARK)),
    Case("a proxy's form, another host", _get(b"http://%s.example/livez" % MARK), (200,)),
    Case("a proxy's form, no path", _get(b"http://%s.example" % MARK), (404,)),
    Case("a proxy's form, a bracket open", _get(b"http://[%s/livez" % MARK)),
    Case("a proxy's form, no such port", _get(b"http://%s:99999/livez" % MARK)),
    Case("no version", b"GET /%s\r\n\r\n" % MARK, (400, 404)),
    Case("version 1.2", _get(version=b"HTTP/1.2")),
    Case("version 9.9", _get(version=b"HTTP/9.9")),
    Case("no such protocol", _get(version=b"HTCPCP/1.0")),
    Case("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK),
    Case("lines that end in LF alone", b"GET /%s HTTP/1.1\nHost: x\nConnection: close\n\n" % MARK),
    Case("lines that end in CR alone", b"GET /%s HTTP/1.1\rHost: x\r\r" % MARK),
    Case("NUL in the path", _get(b"/%s\0" % MARK)),
    Case("bytes of no encoding in the path", _get(b"/health/%s\xff\xfe?\xff=\xfe" % MARK)),
    Case("percent signs of no meaning", _get(b"/health/%s%%ff%%00%%zz%%2f" % MARK), (404,)),
    Case("a line break in a name", _get(b"/health/%s%%0d%%0aX-Injected:%%201" % MARK), (404,)),
    Case("a path of slashes", _get(b"/" * 8000 + MARK), (404,)),
    Case("a line too long", _get(b"/" + MARK * 3000)),
    # what is no HTTP at all
    Case("a TLS ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + MARK),
    Case("SSH", b"SSH-2.0-OpenSSH_9.9 %s\r\n" % MARK),
    Case("Redis", b"*2\r\n$3\r\nGET\r\n$7\r\n%s\r\n" % MARK),
    Case("noise", bytes(range(256)) * 4 + MARK),
    # headers
    Case("no Host", b"GET /livez HTTP/1.1\r\nX: %s\r\n\r\n" % MARK),
    Case("two Hosts", _get(headers=b"Host: y\r\n")),
    Case("a Host that is none", b"GET /livez HTTP/1.1\r\nHost: [%s\r\nConnection: close\r\n\r\n" % MARK, (200, 400)),
    Case("a space in a name", _get(headers=b"X %s: 1\r\n" % MARK)),
    Case("a name that is none", _get(headers=b"X\xc3\xa9%s: 1\r\n" % MARK)),
    Case("no name", _get(headers=b": %s\r\n" % MARK)),
    Case("no colon", _get(headers=MARK + b"\r\n")),
    Case("NUL in a value", _get(headers=b"Authorization: Bearer %s\0\r\n" % MARK)),
    Case("CR in a value", _get(headers=b"X: a\r%s: b\r\n" % MARK)),
    Case("a folded line", _get(headers=b"X: a\r\n %s\r\n" % MARK)),
    Case("a header too long", _get(headers=b"X: " + MARK * 3000 + b"\r\n")),
    Case("too many headers", _get(headers=b"".join(b"X%d: %s\r\n" % (number, MARK) for number in range(1000)))),
    Case("bytes of no encoding in what is negotiated", _get(b"/metrics", headers=b"Accept: \xff%s\r\n" % MARK), (200,)),
    Case("an Expect that nobody knows", _post(b"Expect: %s\r\nContent-Length: 0\r\n" % MARK), (417,)),
    # bodies
    Case("a length and chunks", _post(b"Content-Length: 5\r\n" + _CHUNKED, b"0\r\n\r\n" + MARK)),
    Case("two lengths", _post(b"Content-Length: 5\r\nContent-Length: 6\r\n", MARK)),
    Case("a length below nothing", _post(b"Content-Length: -5\r\n", MARK)),
    Case("a length in words", _post(b"Content-Length: %s\r\n" % MARK)),
    Case("a length above all numbers", _post(b"Content-Length: %s\r\n" % (b"9" * 40), MARK)),
    Case("a length that never comes", _post(b"Content-Length: 9999999999999\r\n", MARK), (403,)),
    Case("a coding that is none", _post(b"Transfer-Encoding: %s\r\n" % MARK)),
    Case("chunks before the last coding", _post(b"Transfer-Encoding: chunked, gzip\r\n", MARK)),
    Case("a chunk size that is none", _post(_CHUNKED, b"%s\r\nhello" % MARK), (400, 403)),
    Case("a chunk size above all numbers", _post(_CHUNKED, b"F" * 17 + b"\r\n" + MARK), (400, 403)),
    Case("a chunk longer than it says", _post(_CHUNKED, b"5\r\n%s\r\n" % MARK), (400, 403)),
    Case("a body that is not gzip", _post(b"Content-Encoding: gzip\r\nContent-Length: 7\r\n", MARK), (403,)),
    Case("a GET with a body", _get(headers=b"Content-Length: 7\r\n") + MARK, (200,)),
)
