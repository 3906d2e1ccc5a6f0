"""The platform's HTTP side. It measures nothing of itself.

By itself it is run as `python -m exporter.demo.trading.service PORT [UID GID]`, on loopback. As root it gives up its rights
by itself, and not its guard for it: the interpreter may stand where only root can read it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from exporter.demo.servers import HOST
from exporter.demo.servers.python import become


class App(BaseHTTPRequestHandler):
    """Answers GET and HEAD of /health; anything else is not found."""

    protocol_version = "HTTP/1.1"
    server_version = "trading-app"
    sys_version = ""

    def do_GET(self) -> None:
        self.wfile.write(self._begin())

    def do_HEAD(self) -> None:
        self._begin()

    def _begin(self) -> bytes:
        """Sends the head of the answer and returns its body."""
        found = self.path == "/health"
        body = b'{"status": "ok"}\n' if found else b'{"status": "not found"}\n'
        self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Nothing: a probe every two seconds would fill the log."""


@contextmanager
def serving(host: str, port: int) -> Iterator[None]:
    """Serves from a thread of its own for the length of the block; raises OSError where the address cannot be had."""
    with ThreadingHTTPServer((host, port), App) as server:
        Thread(target=server.serve_forever, name="http", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def main(arguments: list[str]) -> None:
    port, *who = map(int, arguments)
    with ThreadingHTTPServer((HOST, port), App) as server:
        if who:
            uid, gid = who
            become(uid, gid)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
