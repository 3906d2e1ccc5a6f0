"""What stands on the demo's stage: the exporter, a database and an application, each of which can be broken and healed.

All calls block: from a loop use a thread. Knows no command line and no scene.
"""

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from typing import Literal

from exporter.demo.servers import HOST, Account, Postgres, Server, unprivileged
from exporter.demo.servers.python import identity, python, python_path
from exporter.demo.trading import seed
from exporter.errors import ExporterError

How = Literal["stop", "freeze"]

ROLE = "sidecar"

_CONFIGURATION = """\
listen: "{host}:{port}"
instance: demo
defaults:
  interval: 2s
  timeout: 1s
  circuit: {{open_after: 3}}        # soon, so that there is something to see
probes:
  db:
    type: postgres
    url: ${{file:{secret}}}
    queries:
      executed:
        sql: SELECT symbol, count(*) AS total FROM trades WHERE status = 'executed' GROUP BY symbol
        metrics:
          trades_executed_total: {{type: counter, help: "Trades executed, from table trades.", value: total, labels: [symbol]}}
      opportunities:
        sql: SELECT count(*) AS active FROM opportunities WHERE status = 'active'
        metrics:
          active_arbitrage_opportunities: {{type: gauge, help: "Opportunities open now, from table opportunities.", value: active}}
  app:
    type: http
    url: http://{host}:{app_port}/health
"""


class StageError(ExporterError):
    """What was asked of the stage makes no sense; the message says what would."""


class Exporter(Server):
    """The exporter itself, a child like any other; ready once its page answers."""

    name = "exporter"

    def __init__(self, port: int) -> None:
        super().__init__(port=port)
        self.configuration = self.folder / "config.yaml"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def configure(self, database_url: str, app_port: int) -> None:
        """Writes its configuration; the database's URL, which has a password, stands in a file of its own."""
        secret = self.folder / "database_url"
        secret.write_text(database_url)
        self.configuration.write_text(_CONFIGURATION.format(host=HOST, port=self.port, secret=secret, app_port=app_port))

    def command(self) -> list[str]:
        return python("exporter", "run", "-c", str(self.configuration))

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path()

    def is_ready(self) -> bool:
        return _answers(self.port, "/livez")


class App(Server):
    """The application's HTTP side (`target.py`)."""

    name = "app"

    def __init__(self) -> None:
        super().__init__()
        self._becomes: Account = unprivileged()

    def command(self) -> list[str]:
        return python("exporter.demo.target", str(self.port), *identity(self._becomes))

    def environment(self) -> dict[str, str]:
        return super().environment() | python_path()

    def is_ready(self) -> bool:
        return _answers(self.port, "/health")


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


class Stage:
    """The exporter and what it probes; mutable. Made, then `show_exporter`, then `show_targets`; in the end `close`.

    Raises MissingServer or ServerFailed where a part cannot be had, and leaves nothing behind then.
    """

    def __init__(self, port: int) -> None:
        password = secrets.token_urlsafe(12)
        with ExitStack() as made:
            self.exporter = Exporter(port)
            made.callback(self.exporter.close)
            self.database = Postgres(seed=seed(ROLE, password))
            made.callback(self.database.close)
            self.app = App()
            made.callback(self.app.close)
            self.exporter.configure(f"postgresql://{ROLE}:{password}@{HOST}:{self.database.port}/postgres", self.app.port)
            self._made = made.pop_all()
        self._broken: dict[str, How] = {}

    @property
    def targets(self) -> Mapping[str, Server]:
        """What can be broken, by the name of its probe."""
        return {"db": self.database, "app": self.app}

    def show_exporter(self) -> None:
        """Starts the exporter, before any of its targets: a target that is down is a finding."""
        self.exporter.start()

    def show_targets(self) -> None:
        """Starts the application and the database."""
        self.app.start()
        self.database.start()

    def broken(self, name: str, how: How = "stop") -> str:
        """Breaks a target and says what happened: `stop` ends it, so that connections are refused; `freeze` hangs it."""
        server = self._target(name)
        if name in self._broken:
            raise StageError(f"{name} is already broken ({self._broken[name]}); heal it first")
        if how == "freeze":
            server.freeze()
        else:
            server.stop()
        self._broken[name] = how
        return f"{name}: frozen; it accepts connections and answers nothing" if how == "freeze" else f"{name}: stopped"

    def healed(self, name: str) -> str:
        """Undoes what `broken` did, and says so."""
        server = self._target(name)
        how = self._broken.get(name)
        if how is None:
            raise StageError(f"{name} is not broken")
        if how == "freeze":
            server.thaw()
        else:
            server.start()
        del self._broken[name]
        return f"{name}: runs again; the exporter notices at its next trial"

    def close(self) -> None:
        """Ends everything and removes all folders."""
        self._made.close()

    def _target(self, name: str) -> Server:
        server = self.targets.get(name)
        if server is None:
            raise StageError(f"no {name!r} here; there are {', '.join(self.targets)}")
        return server
