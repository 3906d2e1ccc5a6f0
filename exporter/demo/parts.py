"""The children that run our own code: the exporter, and the platform beside its Celery worker. Knows no stage."""

import shutil
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from exporter.demo.servers import HOST, Account, Program, Server, unprivileged
from exporter.demo.servers.python import identity, python, python_path, who_can_read_us

EXAMPLE = Path(__file__).with_name("config.example.yaml")
"""What the exporter is told: the example of the project, as it stands."""


class Exporter(Server):
    """The exporter itself, a child like any other; ready once its page answers."""

    name = "exporter"

    def __init__(self, port: int) -> None:
        super().__init__(port=port)
        self.configuration = self.folder / "config.yaml"
        shutil.copyfile(EXAMPLE, self.configuration)
        self._variables: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def configure(self, secrets: Mapping[str, str], variables: Mapping[str, str]) -> None:
        """What its configuration asks for: URLs with passwords stand in files of their own, the rest in its environment."""
        self._variables = dict(variables)
        for name, value in secrets.items():
            self._variables[f"{name}_FILE"] = str(self.write(self.folder / name.lower(), value.encode()))

    def command(self) -> list[str]:
        return python("exporter", "run", "-c", str(self.configuration), "--listen", f"{HOST}:{self.port}")

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path() | self._variables

    def is_ready(self) -> bool:
        return _answers(self.port, "/livez")


class App(Server):
    """The platform's HTTP side (`trading/service.py`)."""

    name = "app"

    def __init__(self) -> None:
        super().__init__()
        self._becomes: Account = unprivileged()

    def command(self) -> list[str]:
        return python("exporter.demo.trading.service", str(self.port), *identity(self._becomes))

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path()

    def is_ready(self) -> bool:
        return _answers(self.port, "/health")


class Platform(Program):
    """The platform's own process (`trading/platform.py`); it reaches others and listens to nobody."""

    name = "trading"

    def __init__(self) -> None:
        super().__init__(who_can_read_us())
        self.ledger = self.folder / "ledger.tsv"
        self._variables: dict[str, str] = {}

    def configure(self, variables: Mapping[str, str]) -> None:
        """The environment it reads; see `trading/platform.py`."""
        self._variables = dict(variables)

    def command(self) -> list[str]:
        return python("exporter.demo.trading.platform")

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path() | self._variables

    def is_ready(self) -> bool:
        """At once: what it needs may be away, now or later."""
        return True


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
