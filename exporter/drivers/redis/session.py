"""A session with a Redis or Valkey server: logging in, asking, subscribing.

Knows no metric, no probe and no schedule.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, TypeAlias

from redis import exceptions
from redis._parsers import _AsyncRESP2Parser, _AsyncRESP3Parser
from redis.asyncio.connection import AbstractConnection

from exporter import phase
from exporter.drivers.dns import Resolver
from exporter.drivers.redis.errors import Refusal, translated
from exporter.drivers.redis.line import Endpoint, Hold, Line, open_line
from exporter.errors import MESSAGE_LENGTH, ProbeError
from exporter.model import Reason
from exporter.secret import Secret, one_line

CLIENT_NAME = "sidecar-exporter"
"""What CLIENT LIST shows of us."""

Protocol = Literal[2, 3]
Argument = str | bytes | int
Command: TypeAlias = Sequence[Argument]
Reply: TypeAlias = "bytes | int | float | list[Reply] | dict[bytes, Reply] | None"
"""What a server answers. Text is bytes; a map of RESP3 is a dict where RESP2 has a flat list."""
Answer: TypeAlias = "Reply | ProbeError"
"""A reply, or the server's refusal."""


_LONGEST_FACT = 40


@dataclass(frozen=True, slots=True)
class Login:
    """As whom to log in, and where to. Without a `username` it is Redis' default user."""

    endpoint: Endpoint
    username: str | None = None
    password: Secret | None = None
    db: int = 0
    protocol: Protocol = 3

    @property
    def has_credentials(self) -> bool:
        return bool(self.username or self.password)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says of itself in answer to HELLO. `mode` is standalone, cluster or sentinel; `role` master or replica."""

    version: str
    mode: str
    role: str


@dataclass(frozen=True, slots=True)
class Message:
    """Something published. `pattern` is the one it came by, None by a plain subscription."""

    channel: bytes
    payload: bytes
    pattern: bytes | None = None


class Session:
    """One logged-in connection; mutable: it ends. One command, or one pipeline, at a time.

    After a refusal it goes on; after any other error it is to be aborted.
    """

    def __init__(self, line: Line, place: str, protocol: Protocol) -> None:
        self.place = place
        self.encrypted = line.encrypted
        self.protocol: Protocol = protocol
        self.greeting: Greeting | None = None
        self._line = line
        self._wire = _Wire(line, place, protocol)
        self._answers = 0
        self._inbox: deque[Message] = deque()

    @property
    def alive(self) -> bool:
        """Whether it can be used: it is open, and the server has not spoken unasked."""
        return self._line.is_open and self._line.answers == self._answers

    def abort(self) -> None:
        """Ends it at once, without waiting for the server."""
        self._wire.abort()

    # --- asking -------------------------------------------------------------------------------------------------------

    async def execute(self, *command: Argument) -> Reply:
        """The answer to one command. Messages name its first word alone.

        Raises:
            ProbeError: the server refuses it, which leaves the session in order, or the connection is lost.
        """
        (answer,) = await self.pipeline(command)
        return _granted(answer)

    async def pipeline(self, *commands: Command) -> tuple[Answer, ...]:
        """The answers to commands sent at once, in one round trip; a ProbeError among them is the server's refusal.

        Raises:
            ProbeError: the connection is lost.
        """
        return await self._ask(commands, [f"{_verb(command)} on {self.place}" for command in commands]) if commands else ()

    async def log_in(self, login: Login) -> None:
        """Says who we are; called once, first.

        Raises:
            ProbeError: the server does not let us in, or not into that database.
        """
        where = f"log in to {self.place}"
        chosen = [("SELECT", login.db)] if login.db else []
        if self.protocol == 3 and await self._said_hello(login, where, chosen):
            return
        auth = [("AUTH", *_credentials(login))] if login.has_credentials else []
        commands = [*auth, *chosen, ("CLIENT", "SETNAME", CLIENT_NAME)]
        wheres = [*([where] * len(auth)), *self._choosing(chosen), where]
        *needed, _ = await self._ask(commands, wheres)  # the name is a courtesy, and may need a right
        _granted(*needed)

    async def _said_hello(self, login: Login, where: str, chosen: Sequence[tuple[str, int]]) -> bool:
        """Logs in by HELLO; False, in RESP2, where the server does not know it (before Redis 6) or no RESP3."""
        auth = ("AUTH", login.username or "default", _credentials(login)[-1]) if login.has_credentials else ()
        commands = [("HELLO", 3, *auth, "SETNAME", CLIENT_NAME), *chosen]
        answer, *selected = await self._ask(commands, [where, *self._choosing(chosen)])
        if isinstance(answer, ProbeError) and answer.reason is Reason.UNSUPPORTED:
            self.protocol = 2
            self._wire.speak(2)
            return False
        self.greeting = greeting_of(_granted(answer), where)
        _granted(*selected)
        return True

    def _choosing(self, chosen: Sequence[tuple[str, int]]) -> list[str]:
        return [f"{verb} {db} on {self.place}" for verb, db in chosen]

    async def _ask(self, commands: Sequence[Command], wheres: Sequence[str]) -> tuple[Answer, ...]:
        with phase.waiting(wheres[0]), translated(wheres[0]):
            if not self._line.is_open:
                raise ConnectionResetError
            if self._answers and self._line.answers != self._answers:
                raise ProbeError(Reason.PROTOCOL, f"{wheres[0]}: the server answered more than was asked")
            await self._send(commands)
            return await self._answers_to(wheres)

    async def _send(self, commands: Sequence[Command]) -> None:
        await self._wire.send_packed_command(self._wire.pack_commands(commands), check_health=False)

    async def _answers_to(self, wheres: Sequence[str]) -> tuple[Answer, ...]:
        """One answer for each; a server that closes after a refusal has said why."""
        answers: list[Answer] = []
        for where in wheres:
            try:
                answers.append(await self._answer(where))
            except exceptions.ConnectionError:
                _granted(*answers)
                raise
        return tuple(answers)

    async def _answer(self, where: str) -> Answer:
        self._answers += 1
        try:
            reply: Reply = await self._wire.read_response(disable_decoding=True)
        except Refusal as refusal:
            return _problem_of(refusal, where)
        return reply

    # --- subscribing --------------------------------------------------------------------------------------------------

    async def subscribe(self, *, channels: Sequence[str] = (), patterns: Sequence[str] = ()) -> None:
        """Begins to receive what is published on `channels` and on those that match `patterns`; returns once all is confirmed.

        From then on the session is for `receive` alone: what is published while it asked something would be lost.

        Raises:
            ProbeError: the server refuses, or the connection is lost.
        """
        for verb, names in (("SUBSCRIBE", channels), ("PSUBSCRIBE", patterns)):
            if names:
                await self._subscribe(verb, names)

    async def receive(self) -> Message:
        """The next message; waits for it without end.

        Raises:
            ProbeError: the connection is lost.
        """
        where = f"messages from {self.place}"
        with phase.waiting(where), translated(where):
            while not self._inbox:
                await self._event(where)
            return self._inbox.popleft()

    async def _subscribe(self, verb: str, names: Sequence[str]) -> None:
        where = f"{verb} on {self.place}"
        with phase.waiting(where), translated(where):
            await self._send([(verb, *names)])
            missing = len(names)
            while missing:
                missing -= await self._event(where) == verb.lower().encode()

    async def _event(self, where: str) -> bytes | None:
        """Takes in the next thing that the server tells a subscriber; the kind of what is no message, None for a message."""
        try:
            told: Reply = await self._wire.read_response(disable_decoding=True, push_request=True)
        except Refusal as refusal:
            self._answers += 1
            raise _problem_of(refusal, where) from refusal
        if self.protocol == 2:  # what RESP3 pushes is an answer there
            self._answers += 1
        match told:
            case [b"message", bytes(channel), bytes(payload)]:
                self._inbox.append(Message(channel, payload))
            case [b"pmessage", bytes(pattern), bytes(channel), bytes(payload)]:
                self._inbox.append(Message(channel, payload, pattern))
            case [bytes(kind), *_]:
                return kind
            case _:
                raise ProbeError(Reason.PROTOCOL, f"{where}: not what a subscriber is told")
        return None


class _Refusing:
    """Has a parser keep the server's answer as it is: which of redis-py's classes it would become differs by its version."""

    @classmethod
    def parse_error(cls, response: str) -> Refusal:
        return Refusal(response)


class _Resp2(_Refusing, _AsyncRESP2Parser):
    pass


class _Resp3(_Refusing, _AsyncRESP3Parser):
    pass


_PARSERS = {2: _Resp2, 3: _Resp3}
"""Pinned: with hiredis installed redis-py would take its parser, which knows other errors."""


_SILENT: dict[str, Any] = {"driver_info": None} if "driver_info" in signature(AbstractConnection.__init__).parameters else {}
"""Keeps redis-py from reading its own version from disk for each connection, where it has it tell the server (not yet in 6.4)."""


class _Wire(AbstractConnection):
    """redis-py's connection on a line that is already open, with nothing of its own that waits, retries or reconnects."""

    def __init__(self, line: Line, place: str, protocol: Protocol) -> None:
        super().__init__(
            protocol=protocol,
            parser_class=_PARSERS[protocol],
            socket_timeout=None,
            socket_connect_timeout=None,
            health_check_interval=0,
            **_SILENT,
        )
        self._line = line
        self._place = place
        self._reader = line.reader
        self._writer = line.writer()
        self._parser.on_connect(self)  # type: ignore[no-untyped-call]

    def speak(self, protocol: Protocol) -> None:
        """Goes on in another version of the protocol."""
        self.protocol = protocol
        self.set_parser(_PARSERS[protocol])
        self._parser.on_connect(self)  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        self._line.abort()
        self._reader = self._writer = None

    async def _connect(self) -> None:
        """redis-py asks for this when it finds the connection gone."""
        raise ConnectionResetError

    def _host_error(self) -> str:
        return self._place

    def repr_pieces(self) -> list[tuple[str, str | int]]:
        return [("place", self._place)]


async def connect(login: Login, resolver: Resolver, hold: Hold) -> Session:
    """A new session, logged in, named and in its database; in RESP2 where the server knows no RESP3.

    `hold` is given what aborts it as soon as there is something to abort.

    Raises:
        ProbeError: it cannot be had.
    """
    endpoint = login.endpoint
    line = await open_line(endpoint, resolver, hold)
    session = Session(line, endpoint.place, login.protocol)
    hold(session.abort)
    try:
        await session.log_in(login)
    except BaseException:
        session.abort()
        raise
    return session


def greeting_of(reply: Reply, where: str) -> Greeting:
    """What an answer to HELLO says.

    Raises:
        ProbeError: reason protocol; it is no answer to HELLO 3.
    """
    if not isinstance(reply, dict) or reply.get(b"proto") != 3:
        raise ProbeError(Reason.PROTOCOL, f"{where}: not the Redis protocol: no answer to HELLO")
    version, mode, role = (_text(reply.get(key)) for key in (b"version", b"mode", b"role"))
    return Greeting(version, mode, role)


def _text(value: Reply) -> str:
    return one_line(value.decode(errors="replace"), _LONGEST_FACT) if isinstance(value, bytes) else ""


def _credentials(login: Login) -> tuple[str, ...]:
    """As AUTH takes them: before Redis 6 a password alone, and still so for the default user."""
    password = login.password.reveal() if login.password is not None else ""
    return (password,) if login.username in (None, "default") else (login.username, password)


def _verb(command: Command) -> str:
    """What a message may say of a command: its first word, never an argument."""
    return command[0] if isinstance(command[0], str) else "a command"


def _granted(*answers: Answer) -> Reply:
    """The first answer, None without any; raises the first that is a refusal."""
    replies: list[Reply] = []
    for answer in answers:
        if isinstance(answer, ProbeError):
            raise answer
        replies.append(answer)
    return replies[0] if replies else None


def _problem_of(refusal: Refusal, where: str) -> ProbeError:
    return ProbeError(refusal.reason, one_line(f"{where}: {refusal.told}", MESSAGE_LENGTH))
