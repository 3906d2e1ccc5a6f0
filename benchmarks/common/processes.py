"""Children that are measured: the exporter and references, what they cost, and where they stand. All on loopback.

`Program` of the demo's servers starts and ends them: nothing outlives its owner.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from exporter.demo.servers import HOST, Server
from exporter.demo.servers.python import python, python_path

MIB = 1024 * 1024
_ENTRY = "benchmarks.common.types"


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, all threads, ended ones included; to the nanosecond, where /proc counts hundredths.

    The clock's number is made as clock_getcpuclockid(3) makes it, which Python gives for threads alone (Linux,
    include/linux/posix-timers_types.h: CPUCLOCK_SCHED).
    """
    return time.clock_gettime(~pid << 3 | 2)


def tree_cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of processes and of all their children that have ended (proc(5), stat: cutime, cstime)."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for pid in pids:
        with suppress(OSError):  # it has ended meanwhile: its parent's children have its time
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += cpu_seconds(pid) + (int(fields[13]) + int(fields[14])) / ticks
    return total


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM, shared pages included (proc(5), statm)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def answers(port: int, path: str) -> bool:
    """Whether an HTTP server says 200."""
    connection = HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def body_of(port: int, path: str = "/metrics", within: float = 10.0, headers: Mapping[str, str] | None = None) -> bytes:
    """What an HTTP server answers, whatever its status; raises OSError or HTTPException when it does not."""
    connection = HTTPConnection(HOST, port, timeout=within)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().read()
    finally:
        connection.close()


def series_in(page: bytes) -> int:
    """Sample lines of an exposition."""
    return sum(not line.startswith(b"#") for line in page.splitlines())


class Child(Server):
    """A Python process of this checkout that answers HTTP; ready once `probe` says 200."""

    probe = "/"

    @property
    def pid(self) -> int:
        return self.processes[0]

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path()

    def is_ready(self) -> bool:
        return answers(self.port, self.probe)


class ExporterProcess(Child):
    """`exporter run` with a configuration, as users start it; the types of `benchmarks.common.types` are installed for it."""

    name = "exporter"
    probe = "/livez"

    def __init__(self, configuration: Mapping[str, object]) -> None:
        super().__init__()
        self.path = self.folder / "config.yaml"
        self.configure(configuration)
        self._install("noop", "census")

    def configure(self, configuration: Mapping[str, object]) -> None:
        """Writes another file; it is read by SIGHUP or at start. YAML 1.2 is a superset of JSON."""
        self.write(self.path, json.dumps(configuration).encode())

    def command(self) -> list[str]:
        return python("exporter", "run", "-c", str(self.path), "--listen", f"{HOST}:{self.port}", "--log-level", "error")

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path(self.folder / "installed")

    def _install(self, *types: str) -> None:
        """Leaves what pip would leave, in a folder of its own (packaging.python.org, "Entry points specification")."""
        place = self.folder / "installed" / "sidecar_benchmarks-1.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text("Metadata-Version: 2.1\nName: sidecar-benchmarks\nVersion: 1\n")
        lines = (f"{name} = {_ENTRY}:{name.upper()}" for name in types)
        (place / "entry_points.txt").write_text("\n".join(("[sidecar_exporter.probes]", *lines, "")))


class Fixed(Child):
    """The floor: aiohttp that answers every path with the same bytes, in a process of its own."""

    name = "fixed"

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = self.write(self.folder / "body", body)

    def command(self) -> list[str]:
        return python("benchmarks.common.fixed", str(self.port), str(self._body))


def median(values: Iterable[float]) -> float:
    """The middle one: of an even number the higher of two."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` (0 to 1) of all do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
