"""A private Prometheus for tests: Debian's program with the shipped files, their times scaled, and its HTTP API.

Changed are times and the target's address, nothing else. All calls block. Knows no metric.
"""

import json
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exporter.demo.servers import HOST, MissingServer, Server, unprivileged

ANSWER_SECONDS = 5.0
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_RANGE = re.compile(r"\[(\w+)\]")


def find(program: str) -> str:
    """`prometheus` or `promtool` of PATH. Raises MissingServer where it is not there."""
    found = shutil.which(program)
    if found is None:
        raise MissingServer(f"{program} is missing: as root `apt-get install -y --no-install-recommends prometheus`")
    return found


def seconds(duration: str) -> float:
    """A duration as Prometheus writes them, of one number and unit."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()  # type: ignore[union-attr]
    return int(number) * _SECONDS[unit]


def shorter(duration: str, faster: float) -> str:
    """The duration in a world that runs so many times faster."""
    return f"{round(seconds(duration) * 1000 / faster)}ms"


def configuration(text: str, target: str, faster: float) -> str:
    """The shipped prometheus.yml for another target. A scrape may take its whole interval: a busy machine is none of its faults."""
    document = yaml.safe_load(text)
    times = document["global"]
    for key in ("scrape_interval", "evaluation_interval"):
        times[key] = shorter(times[key], faster)
    times["scrape_timeout"] = times["scrape_interval"]
    (job,) = document["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    return yaml.safe_dump(document)


def rules(text: str, faster: float) -> str:
    """The shipped rules: `for` and the windows of expressions are scaled."""
    document = yaml.safe_load(text)
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule["for"] = shorter(rule["for"], faster)
        rule["expr"] = _RANGE.sub(lambda window: f"[{shorter(window[1], faster)}]", rule["expr"])
    return yaml.safe_dump(document)


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float


class Prometheus(Server):
    """Runs the files of `shipped` (prometheus.yml and the rules it names) on `target`, so many times `faster`; keeps nothing."""

    name = "prometheus"

    def __init__(self, shipped: Path, target: str, faster: float) -> None:
        super().__init__(unprivileged())
        self._program = find("prometheus")
        text = (shipped / "prometheus.yml").read_text()
        self._configuration = self.write(self.folder / "prometheus.yml", configuration(text, target, faster).encode())
        for name in yaml.safe_load(text)["rule_files"]:
            self.write(self.folder / name, rules((shipped / name).read_text(), faster).encode())

    def command(self) -> list[str]:
        return [
            self._program,
            f"--config.file={self._configuration}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--log.level=warn",
        ]

    def is_ready(self) -> bool:
        """Whether it has read its files and answers queries."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=1) as answer:
                return answer.status == 200  # type: ignore[no-any-return]
        except OSError:
            return False

    def query(self, expression: str) -> list[Sample]:
        """The vector that the expression is now. Raises HTTPError where Prometheus refuses it."""
        found = self._get("query", query=expression)["result"]
        return [Sample(one["metric"], float(one["value"][1])) for one in found]

    def alerts(self) -> list[Mapping[str, Any]]:
        """Those that are pending or firing now, as /api/v1/alerts tells them."""
        return self._get("alerts")["alerts"]  # type: ignore[no-any-return]

    def _get(self, what: str, **arguments: str) -> Any:
        url = f"http://{HOST}:{self.port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)["data"]
