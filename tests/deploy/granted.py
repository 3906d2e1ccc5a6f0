"""What tests of the grants need: the README's commands and its table, given to real servers, what a probe then lacks, and guards.

A guard fails on a login that may do more than look: a test of rights that comes as an administrator proves nothing.
"""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis as Client

from exporter.demo.servers import HOST, Postgres, RabbitMQ, Redis, find_postgres
from exporter.errors import ProbeError
from exporter.probes.base import Probe
from exporter.probes.celery.probe import CeleryProbe
from tests.celery_stage import listening
from tests.servers import eventually, fetch

ROOT = Path(__file__).parents[2]
GRANTS = ROOT / "deploy" / "grants"
SECTION = (ROOT / "README.md").read_text().partition("\n## Rights\n")[2].partition("\n## ")[0]

LOGIN, CELERY_LOGIN = "exporter", "exporter-celery"
PASSWORD = "l00k 'n' see $1\\2"  # one that every level of quoting would spoil


# --- the README -------------------------------------------------------------------------------------------------------


def command(beginning: str) -> str:
    """The line of the section that begins so."""
    block = SECTION.partition("```sh\n")[2].partition("```")[0]
    (line,) = (line for line in block.splitlines() if line.startswith(beginning))
    return line


def rights(of: str) -> dict[str, frozenset[str]]:
    """The rows of the table for one login: each right, with the names in the last column."""
    told: dict[str, frozenset[str]] = {}
    whose = ""
    for row in re.findall(r"^\|(.*)\|$", SECTION, re.MULTILINE):
        name, needed, lost = (cell.strip() for cell in row.split("|"))
        whose = name or whose
        if whose == of:
            names = frozenset(re.findall(r"`(\w+)`", lost))
            told |= {f"{kind}{right}": names for kind, right in re.findall(r"((?:configure |write |read )?)`([^`]+)`", needed)}
    return told


# --- granting, by the README's commands -------------------------------------------------------------------------------


def run(line: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """A line of shell in the project's folder, with the password where it is looked for."""
    given = {"PATH": os.environ["PATH"], "SIDECAR_PASSWORD": PASSWORD, **environment}
    return subprocess.run(["sh", "-c", line], cwd=ROOT, env=given, capture_output=True, text=True, timeout=60)


def grant_postgres(server: Postgres, database: str, line: str = "", **environment: str) -> None:
    """Applies postgres.sql to the database as the superuser; `line` instead of the README's."""
    line = line or command("psql").replace("-d app", f"-d {database}")
    connected = {"PGHOST": HOST, "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": server.password}
    path = f"{find_postgres()}{os.pathsep}{os.environ['PATH']}"
    ended = run(line, {"PATH": path, **connected, **environment})
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


def grant_redis(server: Redis) -> None:
    """Gives the lines of redis.acl to the server as its default user."""
    line = command("sed").replace("redis-cli", f"redis-cli -h {HOST} -p {server.port}")
    ended = run(line, {"REDISCLI_AUTH": server.password})
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["OK", "OK"], ""), ended.stdout + ended.stderr


def grant_rabbitmq(server: RabbitMQ, line: str, **environment: str) -> None:
    """Runs a line with rabbitmq.sh against the node."""
    ctl = {"RABBITMQCTL": str(server._scripts / "rabbitmqctl"), **server.environment(), **environment}
    ended = run(line, ctl)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), ended.stderr


# --- what is lost -----------------------------------------------------------------------------------------------------


async def lost(probe: Probe[Any]) -> frozenset[str]:
    """By the table's names: the up metric when the check fails, else the collectors that do and the features that lack."""
    try:
        readings = [await probe.check()]
    except ProbeError:
        return frozenset({probe.settings.up.name})
    missing = set()
    for collector in probe.collectors():
        try:
            readings.append(await collector.run())
        except ProbeError:
            missing.add(collector.name)
    return frozenset(missing) | {has.feature for reading in readings for has in reading.capabilities if not has.available}


async def lost_of_celery(probe: CeleryProbe) -> frozenset[str]:
    """The same of a Celery probe, and whether its listener hears itself; the probe is closed after."""
    async with listening(probe) as watched:
        missing = await lost(probe)
        await eventually(lambda: watched.path_up is not None, 5)
        return missing if watched.path_up else missing | {"celery_event_path_up"}


# --- guards -----------------------------------------------------------------------------------------------------------

_POWERS = """
    SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, rolconnlimit,
        ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid),
        ARRAY(SELECT c.oid::regclass::text FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
            AND has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'))
    FROM pg_roles r WHERE rolname = $1
"""


async def only_looks_at_postgres(url: str, role: str) -> None:
    """Asked as superuser of a database: the role is bounded, and no more than a reader of statistics."""
    assert await fetch(url, _POWERS, role) == [(False, 6, ["pg_read_all_stats"], [])]


def only_looks_at_redis(client: "Client", user: str) -> None:
    """Asked as an administrator: commands one by one, names with a beginning, a password."""
    lines = (line.decode() if isinstance(line, bytes) else line for line in client.acl_list())
    (words,) = (line.split() for line in lines if line.split()[1] == user)
    assert "nopass" not in words
    assert [word for word in words if word.startswith(("+@", "allcommands", "allkeys", "allchannels"))] == []
    assert [word for word in words if re.fullmatch(r"(%[RW]*)?[~&]\*.*", word)] == []
    assert "-@all" in words


def only_looks_at_rabbitmq(told: "Definitions", user: str) -> None:
    """No tag, and on no virtual host a right on what is neither the exporter's nor named for it."""
    assert told.tags[user] == []
    for patterns in told.rights[user].values():
        assert [name for pattern in patterns.values() for name in strangers_in(pattern)] == []


_STRANGERS = ("orders", "celery", "amq.topic", "amq.gen-x", "an.exporter.x", "celeryev.x", "celery.pidbox.x", "my.amq.default")


def strangers_in(pattern: str) -> list[str]:
    """Names that a pattern of RabbitMQ has matched though they are none of ours; it matches anywhere unless it is anchored."""
    return [name for name in _STRANGERS if re.search(pattern, name)]


@dataclass(frozen=True)
class Definitions:
    """What a node says of its users: their tags, and their three patterns on each virtual host, by configure, write and read."""

    tags: Mapping[str, list[str]]
    rights: Mapping[str, Mapping[str, Mapping[str, str]]]

    @classmethod
    def of(cls, server: RabbitMQ) -> "Definitions":
        told = json.loads(server.control("export_definitions", "-"))
        rights: dict[str, dict[str, dict[str, str]]] = {user["name"]: {} for user in told["users"]}
        for given in told["permissions"]:
            rights[given["user"]][given["vhost"]] = {kind: given[kind] for kind in ("configure", "write", "read")}
        return cls({user["name"]: user["tags"] for user in told["users"]}, rights)
