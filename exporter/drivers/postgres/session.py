"""A session with a PostgreSQL server: logging in over asyncpg, one statement at a time, read-only, with the server's own timeouts.

Every statement of ours begins with `/* sidecar-exporter */`, so that it can be told apart in pg_stat_statements and in the
server's log. Knows no metric, no probe and no schedule.
"""

import asyncio
import getpass
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.protocol import BUILTIN_TYPE_NAME_MAP

from exporter import phase
from exporter.drivers.dns import Resolver
from exporter.drivers.postgres.errors import translate, translated
from exporter.drivers.postgres.framing import Framing
from exporter.drivers.postgres.line import Endpoint, open_line
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import Secret

COMMENT = "/* sidecar-exporter */"
APPLICATION_NAME = "sidecar-exporter"

STATEMENT_SHARE = 0.75
"""Share of the time left that the server may spend on one message of a statement, so that its refusal is home in time."""
LOCK_SHARE, LOCK_SECONDS = 0.2, 1.0
"""The longest wait for a lock: a share of the time left, at most a second: who waits behind an ALTER TABLE makes others wait."""
SHORTEST_SECONDS = 0.05
"""With less time left nothing is begun."""

_FOREVER_SECONDS = 86400.0  # asyncpg's own timeout; the caller's deadline is the one that counts
_ANYWHERE = "127.0.0.1"  # asyncpg wants a host; what it gets is the line that is already open

_REFUSED_TRANSPORT = "28000"  # pg_hba.conf has no line for this user with, or without, TLS

# Types that asyncpg decodes to int, float, Decimal, bool or str; every other one is read in the server's text form.
_NATIVE_TYPES = frozenset(
    BUILTIN_TYPE_NAME_MAP[name]
    for name in (
        "bool",
        "int2",
        "int4",
        "int8",
        "oid",
        "float4",
        "float8",
        "numeric",
        "text",
        "varchar",
        "bpchar",
        "name",
        "unknown",
    )
)
_CHAR = 18  # the type "char" of the catalogues, which asyncpg's table leaves out
_TEXT_TYPES = tuple(sorted({_CHAR, *BUILTIN_TYPE_NAME_MAP.values()} - _NATIVE_TYPES))

Cell = int | float | Decimal | str | None
"""A value of a row; bool counts as int."""


@dataclass(frozen=True, slots=True)
class Login:
    """As whom to log in, and where to. Without a `username` it is the system user's name, without a `database` the user's."""

    endpoint: Endpoint
    username: str | None = None
    password: Secret | None = None
    database: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a statement, at most as many as were asked for."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """When the run of a statement must be over, in the loop's time."""

    until: float

    @classmethod
    def of(cls, seconds: float) -> "Budget":
        return cls(asyncio.get_running_loop().time() + seconds)

    @property
    def left_seconds(self) -> float:
        return self.until - asyncio.get_running_loop().time()


class Session:
    """One logged-in connection; mutable: it ends. One statement at a time."""

    def __init__(self, place: str, line: Framing, connection: "_TextConnection") -> None:
        self.place = place
        self.encrypted = line.encrypted
        self._connection = connection

    @property
    def alive(self) -> bool:
        return not self._connection.is_closed()

    @property
    def is_standby(self) -> bool | None:
        """Whether the server is in recovery. It tells a promotion by itself since PostgreSQL 14; None where it never told."""
        told = getattr(self._connection.get_settings(), "in_hot_standby", None)
        return None if told is None else told == "on"

    async def ping(self) -> None:
        """`SELECT 1`, in one round trip.

        Raises:
            ProbeError: the server does not answer it.
        """
        where = f"SELECT 1 on {self.place}"
        with phase.waiting(where), translated(where):
            await self._connection.execute(f"{COMMENT} SELECT 1")

    async def read(
        self,
        what: str,
        sql: str,
        budget: Budget,
        *,
        most_rows: int,
        suits: Callable[[tuple[str, ...]], None] = lambda columns: None,
    ) -> Answer | ProbeError:
        """The first `most_rows` rows of one statement, run in a read-only transaction that ends within `budget`.

        `what` names it in messages. `suits` is given the columns before anything runs, and raises ProbeError when they are
        not the ones needed. A ProbeError that is returned, not raised, is the server's refusal, that of `suits`, or that no
        time is left: the session goes on.

        Raises:
            ProbeError: the connection is lost.
        """
        where = f"{what} on {self.place}"
        with phase.waiting(where), translated(where):
            limits = Limits.of(budget.left_seconds)
            if limits.statement_seconds < SHORTEST_SECONDS:
                return _too_late(where)
            await self._connection.execute(f"{COMMENT} BEGIN READ ONLY; {limits.sql}")
            try:
                answer = await self._select(where, f"{COMMENT} {sql}", _Watch(where, budget, limits), most_rows, suits)
            except (asyncpg.PostgresError, ProbeError) as error:
                refusal = translate(error, where)
                if refusal is None or not self.alive:
                    raise
                await self._connection.execute(f"{COMMENT} ROLLBACK")
                return refusal
            await self._connection.execute(f"{COMMENT} COMMIT")
            return answer

    async def _select(
        self, where: str, sql: str, watch: "_Watch", most_rows: int, suits: Callable[[tuple[str, ...]], None]
    ) -> Answer:
        # the unnamed statement: nothing is left on a server that a pooler may give to others
        statement = await self._connection.prepare(sql, name="")
        columns = tuple(attribute.name for attribute in statement.get_attributes())
        if not columns:
            raise ProbeError(Reason.CONFIG, f"{where}: returns no rows; write one SELECT")
        if statement.get_parameters():
            raise ProbeError(Reason.CONFIG, f"{where}: has parameters such as $1; write the values")
        suits(columns)
        watch.look()
        cursor = await statement.cursor()
        watch.look()
        return Answer(columns, tuple(map(tuple, await cursor.fetch(most_rows))))

    def abort(self) -> None:
        """Ends it at once, without waiting for the server."""
        self._connection.terminate()


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's own timeouts for one transaction."""

    statement_seconds: float
    lock_seconds: float

    @classmethod
    def of(cls, left_seconds: float) -> "Limits":
        return cls(left_seconds * STATEMENT_SHARE, min(LOCK_SECONDS, left_seconds * LOCK_SHARE))

    @property
    def sql(self) -> str:
        """Sets them for the transaction alone: behind a pooler the session may be somebody else's next."""
        statement, lock = round(self.statement_seconds * 1000), round(self.lock_seconds * 1000)
        return (
            f"SET LOCAL default_transaction_read_only = on; SET LOCAL statement_timeout = {statement};"
            f" SET LOCAL lock_timeout = {lock}; SET LOCAL idle_in_transaction_session_timeout = {statement}"
        )


@dataclass(frozen=True, slots=True)
class _Watch:
    """The server counts statement_timeout anew for each message: none is sent that might outlive the deadline."""

    where: str
    budget: Budget
    limits: Limits

    def look(self) -> None:
        if self.budget.left_seconds < self.limits.statement_seconds:
            raise _too_late(self.where)


def _too_late(where: str) -> ProbeError:
    return ProbeError(Reason.TIMEOUT, f"{where}: no time left to run it", retryable=False)


async def connect(login: Login, resolver: Resolver, hold: Callable[[Callable[[], None]], None]) -> Session:
    """A new session. `hold` is given what aborts it as soon as there is something to abort, anew for each attempt.

    Raises:
        ProbeError: it cannot be had. Of two refusals the one under TLS is told.
    """
    refusals: dict[bool, ProbeError] = {}
    for encrypted in login.endpoint.attempts:
        try:
            return await _attempt(login, encrypted, resolver, hold)
        except ProbeError as error:
            if not _depends_on_tls(error):
                raise
            refusals[encrypted] = error
    raise refusals.get(True) or refusals[False]


def _depends_on_tls(error: ProbeError) -> bool:
    refused = isinstance(error.__cause__, asyncpg.PostgresError) and error.__cause__.sqlstate == _REFUSED_TRANSPORT
    return refused or error.reason is Reason.TLS


async def _attempt(login: Login, encrypted: bool, resolver: Resolver, hold: Callable[[Callable[[], None]], None]) -> Session:
    endpoint = login.endpoint
    line = await open_line(endpoint, encrypted, resolver, hold)
    where = f"log in to {endpoint.place}"
    try:
        with phase.waiting(where), translated(where):
            connection = await _log_in(login, line)
    except BaseException:
        line.abort()
        raise
    session = Session(endpoint.place, line, connection)
    hold(session.abort)
    return session


async def _log_in(login: Login, line: Framing) -> "_TextConnection":
    """Everything that asyncpg would look up in the environment or in HOME is given, so that it never looks."""
    user = login.username or _system_user()
    connection = await asyncpg.connect(
        host=_ANYWHERE,
        port=login.endpoint.port,
        user=user,
        password=login.password.reveal() if login.password is not None else "",
        database=login.database or user,
        ssl=False,
        direct_tls=False,
        krbsrvname="postgres",
        gsslib="gssapi",
        target_session_attrs=SessionAttribute.any,
        loop=cast("asyncio.AbstractEventLoop", _OneLine(line)),
        timeout=_FOREVER_SECONDS,
        statement_cache_size=0,
        connection_class=_TextConnection,
        server_settings={"application_name": APPLICATION_NAME},
    )
    connection.read_as_text(_TEXT_TYPES)
    return connection


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError) as error:
        raise ProbeError(Reason.CONFIG, "no username: write `username:`, or put it into the url") from error


class _OneLine:
    """The event loop as asyncpg sees it: the one connection it may open is the line that is there; mutable.

    asyncpg would open a second one to cancel a statement; ours end by the server's own timeouts.
    """

    def __init__(self, line: Framing) -> None:
        self._loop = asyncio.get_running_loop()
        self._line: Framing | None = line

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], *_address: object
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        line, self._line = self._line, None
        if line is None:
            raise ConnectionRefusedError
        inner = factory()
        line.attach(inner)
        return line.transport, inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class _TextConnection(asyncpg.Connection):
    """Reads every type it has no number for as the server's text, instead of asking the catalogue what the type is made of.

    asyncpg's question would be a statement without our comment, and a slow one.
    """

    __slots__ = ()

    def read_as_text(self, types: Iterable[int]) -> None:
        settings = self.get_settings()
        for oid in types:
            settings.add_python_codec(oid, f"type {oid}", "pg_catalog", (), "scalar", str, str, "text")

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> tuple[list[object], SimpleNamespace]:
        """Overrides asyncpg's; `name` tells it that the unnamed statement is still the caller's."""
        self.read_as_text(typeoids)
        return [], SimpleNamespace(name="none was needed")
