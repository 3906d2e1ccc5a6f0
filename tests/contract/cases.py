"""What is held to the contract: each probe type, by each way in to its server that has code of its own. Knows no fault.

A new type adds one `Case`.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from tests.brokers import LOOKER

CANARY = "tr0ub4dor-canary"

Keys = dict[str, object]


class Way(enum.Enum):
    """How a connection is carried; misbehaving peers listen the same way."""

    TCP = enum.auto()
    TLS = enum.auto()
    UNIX = enum.auto()


class Peril(enum.Enum):
    """A family of faults that not every way in can meet."""

    LOOKUP = enum.auto()
    TLS = enum.auto()


@dataclass(frozen=True)
class Target:
    """Where a probe is pointed: `host:port` or the path of a Unix socket, and the file that a certificate there is verified by."""

    address: str
    ca_file: str


@dataclass(frozen=True)
class Case:
    """One probe type by one way in. `keys` point it at a target; `tls_keys` do so asking for TLS."""

    type: str
    keys: Callable[[Target], Keys]
    tls_keys: Callable[[Target], Keys]
    variant: str = ""
    """What tells the case from others of its type."""
    way: Way = Way.TCP
    server: str = ""
    """The kind of server there, where it is not called as the type."""
    password: str = ""
    """That of the login in `keys`, where it is not the server's own."""
    detail: Mapping[str, object] = field(default_factory=lambda: {"tls": False})
    """What a success tells of the way."""
    spared: Mapping[Peril, str] = field(default_factory=dict)
    """Faults that cannot exist there, each with the reason why."""
    speaks_starttls: bool = False

    @property
    def name(self) -> str:
        return f"{self.type} {self.variant}".strip()


def _redis(credentials: str = f":{CANARY}", query: str = "") -> Callable[[Target], Keys]:
    return lambda at: {"url": f"redis://{credentials}@{at.address}/1{query}", "retry": "none"}


def _rediss(credentials: str = f":{CANARY}", query: str = "") -> Callable[[Target], Keys]:
    return lambda at: {
        "url": f"rediss://{credentials}@{at.address}/1{query}",
        "tls": {"ca_file": at.ca_file},
        "retry": "none",
    }


_UNIX = {
    Peril.LOOKUP: "a path has no name to look up",
    Peril.TLS: "TLS is never spoken on a Unix socket, whatever is asked for",
}

CASES = (
    Case(
        "postgres",
        lambda at: {"url": f"postgresql://postgres:{CANARY}@{at.address}/postgres", "retry": "none"},
        lambda at: {
            "url": f"postgresql://postgres:{CANARY}@{at.address}/postgres?sslmode=verify-full",
            "tls": {"ca_file": at.ca_file},
            "retry": "none",
        },
        speaks_starttls=True,
    ),
    Case("redis", _redis(), _rediss(), detail={"tls": False, "protocol": "RESP3"}),
    Case(
        "redis",
        _redis(query="?protocol=2"),
        _rediss(query="?protocol=2"),
        "in RESP2",
        detail={"tls": False, "protocol": "RESP2"},
    ),
    Case("redis", _redis(f"{LOOKER}:{CANARY}"), _rediss(f"{LOOKER}:{CANARY}"), "as an ACL user", password=LOOKER),
    Case("redis", _rediss(), _rediss(), "by TLS", Way.TLS, detail={"tls": True}),
    Case(
        "redis",
        lambda at: {"url": f"unix://:{CANARY}@{at.address}?db=1", "retry": "none"},
        lambda at: {"url": f"unix://:{CANARY}@{at.address}?db=1", "tls": {"ca_file": at.ca_file}, "retry": "none"},
        "by a Unix socket",
        Way.UNIX,
        spared=_UNIX,
    ),
    Case(
        "rabbitmq",
        lambda at: {"url": f"amqp://demo:{CANARY}@{at.address}/", "retry": "none"},
        lambda at: {"url": f"amqps://demo:{CANARY}@{at.address}/", "tls": {"ca_file": at.ca_file}, "retry": "none"},
    ),
    Case(
        "celery",
        lambda at: {"broker_url": f"amqp://demo:{CANARY}@{at.address}//", "min_workers": 0},
        lambda at: {"broker_url": f"amqps://demo:{CANARY}@{at.address}//", "tls": {"ca_file": at.ca_file}},
        "over rabbitmq",
        server="rabbitmq",
    ),
    Case(
        "celery",
        lambda at: {"broker_url": f"redis://:{CANARY}@{at.address}/7", "min_workers": 0},
        lambda at: {"broker_url": f"rediss://:{CANARY}@{at.address}/7", "tls": {"ca_file": at.ca_file}},
        "over redis",
        server="redis",
    ),
    Case(
        "http",
        lambda at: {"url": f"http://{at.address}/health?token={CANARY}", "bearer_token": CANARY},
        lambda at: {"url": f"https://{at.address}/health?token={CANARY}", "tls": {"ca_file": at.ca_file}},
    ),
)


def _each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


every_case = _each(list(CASES))


def every_case_with(peril: Peril) -> pytest.MarkDecorator:
    """All but those that are spared it."""
    return _each([case for case in CASES if peril not in case.spared])


def every_case_spared(peril: Peril) -> pytest.MarkDecorator:
    """The others: what they are spared must be shown."""
    return _each([case for case in CASES if peril in case.spared])
