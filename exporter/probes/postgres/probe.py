"""The PostgreSQL probe: `SELECT 1` on a connection of its own decides; groups and queries share the others.

Knows no SQL of its own and no exception of the driver.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from exporter.drivers import postgres as driver
from exporter.drivers.kept import Lease
from exporter.drivers.postgres import Answer, Budget, Endpoint, Login, Session
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import CHECK, Family, Reading, Reason
from exporter.probes.base import Collector, Runtime
from exporter.probes.pooled import PooledProbe
from exporter.probes.postgres.groups import GROUPS
from exporter.probes.postgres.queries import SPARE_ROWS, families, require_columns, require_fewer
from exporter.probes.postgres.server import FACTS, Server, server_of
from exporter.probes.postgres.settings import DEFAULT_PORT, PostgresSettings


@dataclass(frozen=True, slots=True)
class Connection:
    """A session, and what the server said of itself when it began."""

    session: Session
    server: Server

    @property
    def is_standby(self) -> bool:
        """What the server told last: a promotion does not end its sessions."""
        told = self.session.is_standby
        return self.server.is_standby if told is None else told

    @property
    def alive(self) -> bool:
        return self.session.alive

    def abort(self) -> None:
        self.session.abort()


class PostgresProbe(PooledProbe[PostgresSettings, Connection]):
    """One PostgreSQL server."""

    def __init__(self, name: str, settings: PostgresSettings, runtime: Runtime) -> None:
        super().__init__(name, settings, runtime)
        self._login = _login(settings)
        self._most_rows = settings.max_series + SPARE_ROWS
        self._collectors = (
            *(self._within_budget(group, partial(self._read_group, group)) for group in settings.collect),
            *(self._within_budget(query, partial(self._read_query, query)) for query in settings.queries),
        )

    async def check(self) -> Reading:
        """`SELECT 1`, in one round trip once connected. Detail: version, role, database, tls, pool."""
        async with self._checking.lease(CHECK) as connection:
            await connection.session.ping()
        return Reading(
            detail={
                "version": connection.server.version_text,
                "role": "standby" if connection.is_standby else "primary",
                "database": connection.server.database,
                "tls": connection.session.encrypted,
                "pool": self.pool_in_words,
            }
        )

    def collectors(self) -> tuple[Collector, ...]:
        return self._collectors

    @staticmethod
    def translate(error: Exception) -> ProbeError | None:
        return driver.translate(error)

    # --- connections --------------------------------------------------------------------------------------------------

    async def _connect(self, lease: Lease) -> Connection:
        session = await driver.connect(self._login, self.runtime.resolver, lease.hold)
        answer = await session.read("server facts", FACTS, Budget.of(self.settings.timeout_seconds), most_rows=1)
        if isinstance(answer, ProbeError):
            raise answer
        return Connection(session, server_of(answer.rows[0]))

    # --- collectors ---------------------------------------------------------------------------------------------------

    def _within_budget(self, name: str, run: Callable[[Budget], Awaitable[Reading]]) -> Collector:
        """A collector whose statements have the timeouts that its own deadline leaves them."""
        timeout_seconds = self.settings.schedule_of(name).timeout_seconds

        async def read() -> Reading:
            return await run(Budget.of(timeout_seconds))

        return self._collector(name, read)

    async def _read_group(self, name: str, budget: Budget) -> Reading:
        """Reads view after view; what was read before one failed goes along with the error."""
        group = GROUPS[name]
        found: tuple[Family, ...] = ()
        for view in group.views:
            try:
                async with self._collecting.lease(name) as connection:
                    server = connection.server
                    answer = await connection.session.read(
                        f"collector {name}", view.statement(server.version), budget, most_rows=self._most_rows
                    )
                found += view.families(server.version, _rows_of(answer).rows)
            except ProbeError as error:
                raise _with_reading(error, Reading(found)) from error
        return Reading(found, capabilities=(group.feature.judge(server, found),) if group.feature else ())

    async def _read_query(self, name: str, budget: Budget) -> Reading:
        query = self.settings.queries[name]
        async with self._collecting.lease(name) as connection:
            answer = await connection.session.read(
                f"query {name}", query.sql, budget, most_rows=self._most_rows + 1, suits=partial(require_columns, name, query)
            )
        read = _rows_of(answer)
        require_fewer(name, read.rows, self._most_rows)
        return Reading(families(name, query, read.columns, read.rows))


def _rows_of(answer: Answer | ProbeError) -> Answer:
    """Raises a refusal, now that the connection has been given back in good order."""
    if isinstance(answer, ProbeError):
        raise answer
    return answer


def _with_reading(error: ProbeError, reading: Reading) -> ProbeError:
    """The same error with what was read; a built-in statement that the server does not understand is not the user's mistake."""
    reason = Reason.UNSUPPORTED if error.reason is Reason.CONFIG else error.reason
    return ProbeError(reason, error.message, reading=reading, retryable=error.retryable)


def _login(settings: PostgresSettings) -> Login:
    server = settings.server
    own = settings.tls.model_dump(exclude_none=True) if settings.tls is not None else {}
    tls = Tls(**{**settings.tls_material, **own})
    endpoint = Endpoint(server.host, server.port or DEFAULT_PORT, settings.sslmode, tls)
    return Login(endpoint, server.username, server.password, server.path or None)
