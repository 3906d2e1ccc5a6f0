"""An exporter as users run it: a child process, asked over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers import eventually_now

START_SECONDS = 15.0


class Running:
    """`exporter run` on a free loopback port with a configuration written to `folder`; ended at the end of the block.

    `program` is an installed one to start instead of this checkout. It reads no environment but PATH and what is passed in.
    Its log is text, or JSON.
    """

    def __init__(
        self,
        folder: Path,
        configuration: str | None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
        log_format: str = "text",
    ) -> None:
        self.folder = folder
        self.log = folder / "log.txt"
        self.out = folder / "out.txt"
        self.url = ""
        arguments = [*(program or (sys.executable, "-m", "exporter")), "run", "--listen", "127.0.0.1:0", "--log-format", log_format]
        if configuration is not None:
            path = folder / "config.yaml"
            path.write_text(configuration)
            arguments += ["-c", str(path)]
        self._arguments = arguments
        source = "" if program else str(Path(__file__).parent.parent)
        paths = os.pathsep.join(filter(None, [(environment or {}).get("PYTHONPATH"), source]))
        self._environment = {"PATH": os.environ.get("PATH", ""), **(environment or {}), "PYTHONPATH": paths}

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        with self.out.open("wb") as out, self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                self._arguments, stdout=out, stderr=errors, env=self._environment, cwd=self.folder, start_new_session=True
            )
        try:
            self.url = eventually_now(self._announced, START_SECONDS)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def _announced(self) -> str:
        if self.process.poll() is not None:
            raise AssertionError(f"the exporter ended with {self.process.returncode}: {self.log.read_text()}")
        first = self.out.read_text().partition("\n")
        return first[0].removeprefix("listening on ") if first[1] else ""

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self, within: float) -> int:
        """SIGTERM; the exit status, or a failure when it takes longer."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of a GET; raises when nothing answers within 5 s."""
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def health(self, name: str = "") -> dict[str, Any]:
        """The aggregate's body, or one probe's."""
        body = json.loads(self.get(f"/health/{name}" if name else "/health")[1])
        assert isinstance(body, dict)
        return body

    def status(self, name: str) -> str:
        return str(self.health(name)["status"])

    def samples(self, *prefixes: str) -> dict[str, float]:
        """The series of /metrics that begin with one of the prefixes."""
        lines = (line.rpartition(" ") for line in self.get("/metrics")[1].splitlines() if line.startswith(prefixes))
        return {series: float(value) for series, _, value in lines}

    @property
    def said(self) -> str:
        """Everything it has written to its terminal."""
        return self.out.read_text() + self.log.read_text()
