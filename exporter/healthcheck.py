"""`exporter healthcheck`: asks a running exporter whether it is alive, for Docker's HEALTHCHECK and shell scripts.

Started every few seconds in a container that has no curl, so it imports the standard library only, little of that, and
nothing of this package. It reads no configuration file. Exits 0 or 1 and nothing else: Docker reserves 2.
"""

import os
import re
import socket
import sys
import threading
import time
from binascii import b2a_base64
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

USAGE = """\
Usage: exporter healthcheck [URL] [--timeout DURATION] [--wait DURATION]

Asks URL and exits 0 for a 2xx answer, else 1. Without URL: /livez at --listen, else at $EXPORTER_LISTEN, else at
127.0.0.1:10190. The configuration file is not read: give the URL where only the file says where to listen.

  --timeout DURATION  deadline of one attempt, everything included (default 2s)
  --wait DURATION     keep asking until the answer is good, at most so long (default: ask once)
  -h, --help          show this
"""

DEFAULT_PORT = 10190
PAUSE_SECONDS = 0.25
READ_BYTES = 4096
"""As much of a body as Docker keeps of a health check's output."""

# options of the whole command line, which may stand around the subcommand, each with a value
_LISTEN = ("--listen", "--web.listen-address")
_UNUSED = ("-c", "--config", "--config.file", "--log-format", "--log.format", "--log-level", "--log.level")
_COMMON = frozenset((*_LISTEN, *_UNUSED))
_OWN = frozenset(("--timeout", "--wait"))

_LONGEST_SECONDS = 24 * 3600.0
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+|\d+(?:\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|$)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$")
_ASKED_INSTEAD = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - compared, never bound


class Misused(Exception):
    """The command line, or the address in the environment, cannot be understood; one line."""


class Question(NamedTuple):
    """What to ask, how long one attempt may take, and for how long to go on asking (0: once)."""

    url: SplitResult
    timeout_seconds: float
    wait_seconds: float

    @property
    def place(self) -> str:
        """The URL without credentials and query: those may be secrets."""
        return f"{self.url.scheme}://{self.url.netloc.rpartition('@')[2]}{self.url.path}"


class Finding(NamedTuple):
    """Whether the answer was good, and what it was."""

    good: bool
    said: str


def is_asked_for(arguments: Sequence[str]) -> bool:
    """Whether `healthcheck` is the subcommand: the first word that is neither a common option nor the value of one."""
    words = iter(arguments)
    for word in words:
        if word in _COMMON:
            next(words, None)
        elif not word.startswith("-"):
            return word == "healthcheck"
        elif word in ("-h", "--help"):
            return False
    return False


def main(arguments: Sequence[str]) -> int:
    """Runs the command; `arguments` is all that followed the program's name. Returns the exit code."""
    if not {"-h", "--help"}.isdisjoint(arguments):
        sys.stdout.write(USAGE)
        return 0
    try:
        question = parse(arguments, os.environ.get("EXPORTER_LISTEN", ""))
    except Misused as problem:
        return _told(Finding(good=False, said=f"healthcheck: {problem}"))
    try:
        finding = ask(question)
    except KeyboardInterrupt:
        finding = Finding(good=False, said="interrupted")
    return _told(finding._replace(said=f"{question.place}: {finding.said}"))


def _told(finding: Finding) -> int:
    # it may hold a server's bytes, and the locale may be C: what is not ASCII is written as an escape
    line = finding.said.encode("ascii", "backslashreplace").decode("ascii")
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    return 0 if finding.good else 1


def parse(arguments: Sequence[str], environment_listen: str = "") -> Question:
    """The question that the command line asks; `environment_listen` is used where it names no address.

    Raises:
        Misused: with what is wrong and what is allowed.
    """
    options, words = _split(arguments)
    if words[:1] == ["healthcheck"]:
        words = words[1:]
    if len(words) > 1:
        raise Misused("takes one URL")
    listen = next((options[name] for name in _LISTEN if name in options), environment_listen)
    url = _url(words[0]) if words else _url(f"http://{_address(listen)}/livez")
    timeout = _seconds("--timeout", options.get("--timeout", "2s"))
    if not timeout:
        raise Misused("--timeout is above 0s")
    return Question(url, timeout, _seconds("--wait", options.get("--wait", "0s")))


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options, as `--name value` or `--name=value`, and the other words."""
    options: dict[str, str] = {}
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            words.append(word)
            continue
        name, equals, value = word.partition("=")
        if name.startswith("-c") and not equals:
            name, equals, value = "-c", word[2:], word[2:]  # `-cFILE`
        if name not in _COMMON | _OWN:
            raise Misused(f"no such option; there are {', '.join(sorted(_OWN))} and --help")
        options[name] = value if equals else next(rest, "")
    return options, words


def _seconds(name: str, text: str) -> float:
    if not _DURATION.fullmatch(text):
        raise Misused(f"{name} is a duration such as 500ms, 2s or 1m30s")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > _LONGEST_SECONDS:
        raise Misused(f"{name} is at most 24h")
    return seconds


def _address(listen: str) -> str:
    """`host:port` to ask for an address to listen on; a server on all interfaces is asked on the loopback one."""
    host, _, port = listen.rpartition(":") if listen else ("", "", str(DEFAULT_PORT))
    host = host.removeprefix("[").removesuffix("]")
    host = _ASKED_INSTEAD.get(host, host)
    if not re.fullmatch(r"[0-9]{1,5}", port):
        raise Misused("the address to listen on is not HOST:PORT (--listen, EXPORTER_LISTEN); give the URL")
    if int(port) == 0:
        raise Misused("port 0 was picked at start (--listen, EXPORTER_LISTEN); give the URL")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _url(text: str) -> SplitResult:
    """The URL as given; `http://` may be left out. No message repeats it: it may hold a password."""
    if not text.isascii() or any(c <= " " for c in text):
        raise Misused("the URL holds a space or a character that must be percent-encoded")
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Misused("the URL is not http://HOST[:PORT][/PATH] or https://…")
    return url


def ask(question: Question) -> Finding:
    """Asks once, or until the answer is good or `wait_seconds` are over; every attempt has a hard deadline."""
    end = time.monotonic() + question.wait_seconds
    budget = question.timeout_seconds
    while True:
        if question.wait_seconds:
            budget = min(question.timeout_seconds, max(end - time.monotonic(), PAUSE_SECONDS))
        finding = _attempt(question.url, budget)
        if finding.good or time.monotonic() + PAUSE_SECONDS >= end:
            return finding
        time.sleep(PAUSE_SECONDS)


def _attempt(url: SplitResult, seconds: float) -> Finding:
    """One attempt in a thread that is left behind at the deadline: a name lookup can hang for minutes, uninterruptibly."""
    answers: SimpleQueue[Finding] = SimpleQueue()
    threading.Thread(target=lambda: answers.put(_get(url, time.monotonic() + seconds)), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return Finding(good=False, said=f"no answer within {seconds:g}s")


def _get(url: SplitResult, deadline: float) -> Finding:
    try:
        with _connected(url, deadline) as connection:
            connection.sendall(_request(url))
            return _judged(_received(connection, deadline))
    except TimeoutError:
        return Finding(good=False, said="no whole answer in time")
    except (OSError, ValueError) as error:
        return Finding(good=False, said=_in_words(error))


def _in_words(error: OSError | ValueError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    return type(error).__name__


def _connected(url: SplitResult, deadline: float) -> socket.socket:
    secure = url.scheme == "https"
    place = (str(url.hostname), url.port or (443 if secure else 80))
    connection = socket.create_connection(place, timeout=_left(deadline))
    if not secure:
        return connection
    import ssl  # noqa: PLC0415 - 15 ms that plain HTTP need not pay

    return ssl.create_default_context().wrap_socket(connection, server_hostname=url.hostname)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _request(url: SplitResult) -> bytes:
    """HTTP/1.0, so that the answer is neither chunked nor kept alive; text, so that its first line says something."""
    lines = [
        f"GET {url.path or '/'}{'?' if url.query else ''}{url.query} HTTP/1.0",
        f"Host: {url.netloc.rpartition('@')[2]}",
        "Accept: text/plain, */*;q=0.1",
        "User-Agent: exporter-healthcheck",
        "Connection: close",
    ]
    if url.username is not None:
        login = f"{unquote(url.username)}:{unquote(url.password or '')}"
        lines.append(f"Authorization: Basic {b2a_base64(login.encode(), newline=False).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _received(connection: socket.socket, deadline: float) -> bytes:
    """The answer, its body cut at READ_BYTES; a server that drips is cut off at the deadline like a silent one."""
    received = b""
    while not _is_enough(received):
        connection.settimeout(_left(deadline))
        piece = connection.recv(READ_BYTES)
        if not piece:
            break
        received += piece
    return received


def _is_enough(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head) if end else None
    wanted = min(int(length[1]), READ_BYTES) if length else READ_BYTES
    return len(body) >= wanted if end else len(head) > 4 * READ_BYTES


def _judged(answer: bytes) -> Finding:
    status = _STATUS_LINE.match(answer)
    if status is None:
        return Finding(good=False, said="the answer is not HTTP" if answer else "closed without an answer")
    code = int(status[1])
    lines = answer.partition(b"\r\n\r\n")[2][:READ_BYTES].decode("utf-8", "replace").strip().splitlines()
    first = "".join(c if c.isprintable() else " " for c in lines[0]) if lines else ""
    return Finding(good=200 <= code < 300, said=f"{code} {first}".rstrip())
