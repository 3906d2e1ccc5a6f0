"""What stands on the demo's stage: the exporter, the trading platform and its servers, each of which can be broken and healed.

All calls block: from a loop use a thread. Knows no command line and no scene.
"""

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Literal, TypeVar

from exporter.demo.parts import App, Exporter, Platform
from exporter.demo.servers import HOST, CeleryWorker, MissingServer, Postgres, Program, Queue, RabbitMQ, Redis, ServerFailed, User
from exporter.demo.trading.ledger import Ledger
from exporter.demo.trading.schema import seed
from exporter.errors import ExporterError

How = Literal["stop", "freeze"]
P = TypeVar("P", bound=Program)

ROLE = "sidecar"
INTERVAL, TIMEOUT = "2s", "1500ms"
"""Short, so that there is something to see."""
PAUSE_SECONDS = 8.0

_RIGHTS = {
    "configure": r"^exporter\.",
    "write": r"^(exporter\.|amq\.default$|celery\.pidbox$)",
    "read": r"^(exporter\.|celeryev$)",
}
"""What the exporter needs at RabbitMQ, Celery's events included."""


class StageError(ExporterError):
    """What was asked of the stage makes no sense; the message says what would."""


class Stage:
    """The exporter and what it probes; mutable. Made, then `show_exporter`, `show_targets` and `trade`; in the end `close`.

    Without RabbitMQ on the machine there is none on the stage: orders go from hand to hand, Celery's tasks through Redis, and
    `missing` names it with its cure. Raises MissingServer or ServerFailed where another part cannot be had, and leaves nothing
    behind then.
    """

    def __init__(self, port: int) -> None:
        password = secrets.token_urlsafe(12)
        self.missing = ""
        with ExitStack() as made:
            self.exporter = _kept(made, Exporter(port))
            self.database = _kept(made, Postgres(seed=seed(ROLE, password)))
            self.redis = _kept(made, Redis())
            self.rabbitmq = self._rabbitmq(password)
            if self.rabbitmq is not None:
                made.callback(self.rabbitmq.close)
            self.app = _kept(made, App())
            self.platform = _kept(made, Platform())
            self.worker = _kept(made, self._employ())
            self._made = made.pop_all()
        # a stopped target has no guard to remove its own folder, should we be killed
        self.exporter.litter = tuple(program.folder for program in (*self.targets.values(), self.platform))
        self._configure(password)
        self._broken: dict[str, How] = {}
        self._paused = True

    @property
    def targets(self) -> Mapping[str, Program]:
        """What can be broken, by the name of its probe."""
        brokers = {} if self.rabbitmq is None else {"rabbitmq": self.rabbitmq}
        return {"db": self.database, "redis": self.redis, **brokers, "celery": self.worker, "app": self.app}

    @property
    def ledger(self) -> Ledger:
        """What the platform really did."""
        return Ledger(self.platform.ledger)

    @property
    def trading(self) -> str:
        """Whether the platform trades: a word or a few."""
        if self.platform.running:
            return "goes on"
        return "paused" if self._paused else f"has ended: {self.platform.last_words()}"

    def show_exporter(self) -> None:
        """Starts the exporter, before any of its targets is ready: a target that is down is a finding."""
        if self.rabbitmq is not None:
            self.rabbitmq.launch()  # it takes the longest
        self.exporter.start()

    def show_targets(self) -> None:
        """Starts all but the trade itself."""
        for server in (self.redis, self.app, self.database):
            server.launch()
        for server in (self.redis, self.app, self.database):
            server.ready()
        if self.rabbitmq is not None:
            if not self.rabbitmq.running:
                self.rabbitmq.launch()
            self.rabbitmq.ready()
        self.worker.start()

    def must_go_on(self) -> None:
        """Raises ServerFailed when the exporter has ended: there is nothing to see any more."""
        if not self.exporter.running:
            raise ServerFailed(f"the exporter has ended: {self.exporter.last_words()}")

    def trade(self) -> None:
        """Has the platform trade; what it does from now on stands in the ledger."""
        self.platform.start()
        self._paused = False

    def paused(self) -> str:
        """Has the platform finish what it is at and trade no more, and says so."""
        if self._paused:
            raise StageError("trading is paused already; `exporter demo resume` goes on")
        self._paused = True
        self.platform.stop(PAUSE_SECONDS)
        return f"trading: paused; the ledger is {self.platform.ledger}"

    def resumed(self) -> str:
        """Undoes `paused`, and says so."""
        if not self._paused:
            raise StageError("trading is not paused")
        self.trade()
        return "trading: goes on"

    def broken(self, name: str, how: How = "stop") -> str:
        """Breaks a target and says what happened: `stop` ends it, so that connections are refused; `freeze` hangs it."""
        target = self._target(name)
        if name in self._broken:
            raise StageError(f"{name} is already broken ({self._broken[name]}); heal it first")
        if how == "freeze":
            target.freeze()
        else:
            target.stop()
        self._broken[name] = how
        if how == "stop":
            return f"{name}: stopped"
        return f"{name}: frozen; it {'lives' if target is self.worker else 'accepts connections'} and answers nothing"

    def healed(self, name: str) -> str:
        """Undoes what `broken` did, and says so."""
        target = self._target(name)
        how = self._broken.get(name)
        if how is None:
            raise StageError(f"{name} is not broken")
        if how == "freeze":
            target.thaw()
        else:
            target.start()
        del self._broken[name]
        return f"{name}: runs again; the exporter notices at its next trial"

    def close(self) -> None:
        """Ends everything and removes all folders."""
        self._made.close()

    def _target(self, name: str) -> Program:
        target = self.targets.get(name)
        if target is None:
            raise StageError(f"no {name!r} here; there are {', '.join(self.targets)}")
        return target

    def _rabbitmq(self, password: str) -> RabbitMQ | None:
        try:
            return RabbitMQ(users=[User(ROLE, password, **_RIGHTS)], queues=[Queue("orders")])
        except MissingServer as missing:
            self.missing = f"{missing}; orders go from hand to hand, and Celery's tasks through Redis"
            return None

    @property
    def _broker_url(self) -> str:
        return self.redis.url if self.rabbitmq is None else self.rabbitmq.url

    def _employ(self) -> CeleryWorker:
        reached = {"DATABASE_URL": self.database.url, "TRADING_LEDGER": str(self.platform.ledger)}
        return CeleryWorker(
            self._broker_url, "exporter.demo.trading.settlement:app", node="settlement@localhost", variables=reached
        )

    def _configure(self, password: str) -> None:
        """The platform comes as its servers' own user everywhere, the exporter as one that may look."""
        reached = {"DATABASE_URL": self.database.url, "REDIS_URL": self.redis.url, "CELERY_BROKER_URL": self._broker_url}
        broker = {} if self.rabbitmq is None else {"RABBITMQ_URL": self.rabbitmq.url}
        self.platform.configure({**reached, **broker, "TRADING_LEDGER": str(self.platform.ledger)})
        urls = {
            "DATABASE_URL": f"postgresql://{ROLE}:{password}@{HOST}:{self.database.port}/postgres",
            "REDIS_URL": self.redis.url,
            "RABBITMQ_URL": "amqp://127.0.0.1" if self.rabbitmq is None else self.rabbitmq.url_of(user=ROLE, password=password),
        }
        if self.rabbitmq is None:
            urls["CELERY_BROKER_URL"] = self.redis.url
        self.exporter.configure(
            urls,
            {
                "APP_URL": f"http://{HOST}:{self.app.port}/health",
                "APP_ENV": "demo",
                "PROBE_INTERVAL": INTERVAL,
                "PROBE_TIMEOUT": TIMEOUT,
                "RABBITMQ_ENABLED": "false" if self.rabbitmq is None else "true",
            },
        )


def _kept(made: ExitStack, part: P) -> P:
    made.callback(part.close)
    return part
