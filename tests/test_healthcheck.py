"""The health check as Docker runs it: a process, one line, exit 0 or 1."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from exporter import __main__, healthcheck
from exporter.healthcheck import Misused, is_asked_for, parse

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def run(*arguments: str, listen: str | None = None) -> tuple[int, str]:
    """Exit code and output of a real process; anything on stderr is a traceback, and fails the test."""
    environment = {name: value for name, value in os.environ.items() if name != "EXPORTER_LISTEN"}
    if listen is not None:
        environment["EXPORTER_LISTEN"] = listen
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *arguments], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


class Peer:
    """A listener on a free loopback port; `answer` is called with each connection, in a thread."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self.requests.append(connection.recv(4096))
                    self._answer(connection)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a thread blocked in accept keeps it open otherwise
        self._listener.close()


@contextmanager
def peer(answer: Callable[[socket.socket], None] | bytes) -> Iterator[Peer]:
    """A peer that says those bytes and closes, or does as it likes."""
    serving = Peer((lambda connection: connection.sendall(answer)) if isinstance(answer, bytes) else answer)
    yield serving
    serving.close()


def test_good_is_0_and_one_line() -> None:
    """What was asked and what was answered."""
    with peer(OK) as server:
        place = f"127.0.0.1:{server.port}"
        assert run("healthcheck", f"http://{place}/livez") == (0, f"http://{place}/livez: 200 ok\n")
        assert server.requests[0].startswith(b"GET /livez HTTP/1.0\r\nHost: " + place.encode())


def test_the_address_to_listen_on_is_asked_at_livez() -> None:
    """So that HEALTHCHECK needs no argument; a server on all interfaces is asked on the loopback one."""
    with peer(OK) as server:
        for listen in (f"127.0.0.1:{server.port}", f":{server.port}", f"0.0.0.0:{server.port}"):
            assert run("healthcheck", listen=listen) == (0, f"http://127.0.0.1:{server.port}/livez: 200 ok\n")
        assert run("--listen", f":{server.port}", "healthcheck", listen="127.0.0.1:1")[0] == 0
        assert run("-c", "x.yaml", "--log-level=debug", "healthcheck", f"--web.listen-address=:{server.port}")[0] == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nscheduler: no heartbeat for 31s\nmore", "503 scheduler: no heartbeat for 31s"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", "302"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n\n  caf\xc3\xa9 \x1b[31m\xff\n", "404 caf\\xe9  [31m\\ufffd"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"\0" * 10, "the answer is not HTTP"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1 500 Oops\r\n\r\n" + b"x" * 50_000, "500 " + "x" * 4096),
    ],
)
def test_anything_but_2xx_is_1_and_says_what_came(answer: bytes, said: str) -> None:
    """On one line of ASCII, never more of the body than Docker keeps."""
    with peer(answer) as server:
        assert run("healthcheck", f"127.0.0.1:{server.port}/x") == (1, f"http://127.0.0.1:{server.port}/x: {said}\n")


def test_nobody_there_is_1() -> None:
    """The exporter is not running."""
    with peer(OK) as server:
        port = server.port
    code, said = run("healthcheck", f"http://127.0.0.1:{port}/livez")
    assert (code, said) == (1, f"http://127.0.0.1:{port}/livez: connection refused\n")


def test_a_server_that_drips_or_is_silent_is_cut_off_at_the_deadline() -> None:
    """Each byte restarts a socket's own timeout, but not ours."""

    def drip(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 500:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    def silent(connection: socket.socket) -> None:
        connection.recv(1)

    for answer in (drip, silent):
        with peer(answer) as server:
            began = time.monotonic()
            code, said = run("healthcheck", f"http://127.0.0.1:{server.port}/", "--timeout", "500ms")
            assert time.monotonic() - began < 3
            assert code == 1
            assert said.endswith((": no answer within 0.5s\n", ": no whole answer in time\n"))


def test_a_name_lookup_that_hangs_is_cut_off_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be interrupted, so it is left behind in a thread that nobody joins."""
    hanging = "import socket, time\nsocket.getaddrinfo = lambda *a, **k: time.sleep(60)\n"
    (tmp_path / "sitecustomize.py").write_text(hanging)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    began = time.monotonic()
    assert run("healthcheck", "http://db.internal/", "--timeout=0.3s") == (1, "http://db.internal/: no answer within 0.3s\n")
    assert time.monotonic() - began < 3


def test_a_kept_open_connection_is_a_whole_answer() -> None:
    """A server that ignores `Connection: close` has still answered when all that it announced has come."""

    def keep(connection: socket.socket) -> None:
        connection.sendall(OK)
        connection.recv(1)

    with peer(keep) as server:
        assert run("healthcheck", f"127.0.0.1:{server.port}/", "--timeout=5s")[0] == 0


def test_wait_asks_until_it_is_good() -> None:
    """For a script that starts the exporter and then needs it."""
    answers = [b"", b"HTTP/1.1 503 No\r\n\r\n", OK]
    with peer(lambda connection: connection.sendall(answers.pop(0))) as server:
        assert run("healthcheck", f"127.0.0.1:{server.port}/", "--wait", "20s")[0] == 0
        assert len(server.requests) == 3


def test_wait_ends() -> None:
    """With the last answer."""
    with peer(b"HTTP/1.1 503 No\r\n\r\nstart-up") as server:
        began = time.monotonic()
        code, said = run("healthcheck", f"127.0.0.1:{server.port}/", "--wait=1s")
        assert (code, said.endswith(": 503 start-up\n")) == (1, True)
        assert time.monotonic() - began < 4
        assert len(server.requests) > 1


def test_credentials_and_query_are_sent_and_never_printed() -> None:
    """Docker keeps the output where everybody reads it."""
    with peer(OK) as server:
        code, said = run("healthcheck", f"http://me:hunt%65r2@127.0.0.1:{server.port}/health?token=t0psecret")
        assert (code, said) == (0, f"http://127.0.0.1:{server.port}/health: 200 ok\n")
        assert b"GET /health?token=t0psecret HTTP" in server.requests[0]
        assert b"Authorization: Basic bWU6aHVudGVyMg==\r\n" in server.requests[0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--timeout", "soon"], "--timeout is a duration such as 500ms, 2s or 1m30s"),
        (["--timeout", "0s"], "--timeout is above 0s"),
        (["--timeout"], "--timeout is a duration"),
        (["--wait=25h"], "--wait is at most 24h"),
        (["--retries", "3"], "no such option; there are --timeout, --wait and --help"),
        (["http://a/", "http://b/"], "takes one URL"),
        (["ftp://me:s3cret@a/"], "the URL is not http://HOST[:PORT][/PATH]"),
        (["http://me:s3cret@a:99999/"], "the URL is not http://HOST[:PORT][/PATH]"),
        (["http:///path"], "the URL is not http://HOST[:PORT][/PATH]"),
        (["http://a/s3cret\r\nX: y"], "the URL holds a space"),
        (["--listen", ":0"], "port 0 was picked at start"),
        (["--listen", "tcp://10.0.0.1:port"], "the address to listen on is not HOST:PORT"),
    ],
)
def test_a_mistake_is_one_line_and_1(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Docker reserves 2; the line repeats nothing that may be a secret."""
    assert healthcheck.main(["healthcheck", *arguments]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"healthcheck: {problem}")
    assert said.count("\n") == 1
    assert "s3cret" not in said


def test_help_is_0() -> None:
    """It names its options."""
    code, said = run("healthcheck", "--help")
    assert code == 0
    assert "--wait DURATION" in said


def test_durations_and_addresses_are_read_as_the_configuration_writes_them() -> None:
    """One notation everywhere."""
    question = parse(["healthcheck", "--timeout=1m30s", "--wait", "1.5s"], "[::]:9000")
    assert (question.timeout_seconds, question.wait_seconds, question.place) == (90.0, 1.5, "http://127.0.0.1:9000/livez")
    assert parse([]).place == "http://127.0.0.1:10190/livez"
    assert parse(["--timeout", "3"]).timeout_seconds == 3.0
    assert parse(["-cfile.yaml", "https://a"]).place == "https://a"
    with pytest.raises(Misused):
        parse([], "here")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["healthcheck"], True),
        (["healthcheck", "http://a/"], True),
        (["-c", "x", "healthcheck"], True),
        (["-cx", "--config.file=y", "--log.level", "info", "healthcheck"], True),
        (["-c", "healthcheck"], False),
        (["-c", "healthcheck", "run"], False),
        (["probe", "healthcheck"], False),
        (["--help", "healthcheck"], False),
        ([], False),
        (["run"], False),
    ],
)
def test_only_the_subcommand_is_taken(arguments: list[str], asked: bool) -> None:
    """A probe or a file may be called healthcheck."""
    assert is_asked_for(arguments) is asked


def test_everything_else_goes_to_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` decides from the arguments alone."""
    called: list[str] = []
    stand_in = type(sys)("exporter.cli")
    monkeypatch.setattr(stand_in, "main", lambda: called.append("cli"), raising=False)
    monkeypatch.setitem(sys.modules, "exporter.cli", stand_in)
    monkeypatch.setattr(sys, "argv", ["exporter", "check"])
    __main__.main()
    assert called == ["cli"]


def test_nothing_heavy_is_imported() -> None:
    """A check every few seconds must not cost what the exporter's start costs: standard library only."""
    code = (
        "import sys; before = set(sys.modules); import exporter.__main__ as m\n"
        "try: sys.argv = ['exporter', 'healthcheck', '127.0.0.1:1/']; m.main()\n"
        "except SystemExit: pass\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names), sorted(name for name in sys.modules if name.startswith('exporter.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['exporter'] ['exporter.__main__', 'exporter.healthcheck']"


def test_it_starts_fast() -> None:
    """About 20 ms above a bare interpreter were seen; ten times that is the bound."""

    def seconds(*arguments: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True)
        return time.perf_counter() - began

    bare = min(seconds("-c", "pass") for _ in range(5))
    ours = min(seconds("-m", "exporter", "healthcheck", "127.0.0.1:1/") for _ in range(5))
    print(f"healthcheck: {(ours - bare) * 1000:.0f} ms above a bare interpreter")
    assert ours - bare < 0.2
