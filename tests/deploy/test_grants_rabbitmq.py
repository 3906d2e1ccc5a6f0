"""`deploy/grants/rabbitmq.sh`, run against a real node: what its user sees, and what each pattern of his is for."""

import asyncio
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import aio_pika
import pytest

from exporter.demo.servers import CeleryWorker, Queue, RabbitMQ, User
from exporter.drivers.dns import Resolver
from exporter.model import Reason
from exporter.probes.base import Runtime
from exporter.probes.rabbitmq.probe import RabbitmqProbe
from exporter.probes.rabbitmq.settings import RabbitmqSettings
from tests.celery_app import application
from tests.celery_stage import listening, probe_of
from tests.deploy.granted import (
    LOGIN,
    PASSWORD,
    Definitions,
    command,
    grant_rabbitmq,
    lost,
    lost_of_celery,
    only_looks_at_rabbitmq,
    rights,
    run,
    strangers_in,
)
from tests.servers import eventually, started

VHOST, WORKER = "trading", "w1@here"
SCRIPT = "sh deploy/grants/rabbitmq.sh"
ROWS, CELERY_ROWS = rights("RabbitMQ"), rights("Celery over RabbitMQ")


Rights = dict[str, list[str]]
"""By configure, write and read: `^(a|b)` as `^a` and `^b`."""


@dataclass(frozen=True)
class Place:
    """A virtual host with a queue, where one user has been granted what the README says, and others that less one right each."""

    server: RabbitMQ
    rights: Rights
    without: dict[tuple[str, str], str]
    """Users by `of` of the table and the right they lack."""

    @property
    def url(self) -> str:
        return self.server.url_of(VHOST, user=LOGIN, password=PASSWORD)

    def lacking(self, of: str, right: str) -> str:
        return self.server.url_of(VHOST, user=self.without[of, right], password="lacking")


def granted(server: RabbitMQ, line: str) -> Rights:
    """What the script grants, by the node's own word; its user can do no more than look."""
    grant_rabbitmq(server, line)
    told = Definitions.of(server)
    only_looks_at_rabbitmq(told, LOGIN)
    return {kind: _alternatives(pattern) for kind, pattern in told.rights[LOGIN][VHOST].items()}


def _alternatives(pattern: str) -> list[str]:
    group = re.fullmatch(r"\^\((.*)\)", pattern)
    return [f"^{part}" for part in group[1].split("|")] if group else [pattern]


def user_with(rights: Rights, vhost: str = VHOST, *, without: str = "") -> User:
    """A new user with all of these rights, less one."""
    left = {kind: "|".join(some for some in patterns if f"{kind} {some}" != without) or "^$" for kind, patterns in rights.items()}
    return User(f"user-{secrets.token_hex(4)}", "lacking", vhost=vhost, **left)


@pytest.fixture(scope="module")
def place(rabbitmq_server: RabbitMQ) -> Iterator[Place]:
    server = rabbitmq_server
    administrator = User(server.user, server.password, vhost=VHOST, tags="administrator")
    server.define(vhosts=[VHOST], users=[administrator], queues=[Queue("orders", VHOST)])
    rights: Rights = {}
    users: dict[tuple[str, str], User] = {}
    for of, line in (("RabbitMQ", f"{SCRIPT} -p {VHOST}"), ("Celery over RabbitMQ", command(SCRIPT))):
        rights = granted(server, line)
        names = [f"{kind} {pattern}" for kind, patterns in rights.items() for pattern in patterns]
        users |= {(of, name): user_with(rights, without=name) for name in names}
    server.define(users=[*users.values()])
    yield Place(server, rights, {key: user.name for key, user in users.items()})
    server.control("delete_vhost", VHOST)
    server.control("delete_user", LOGIN)


@pytest.fixture(scope="module")
def worker(place: Place) -> Iterator[CeleryWorker]:
    """Started without -E: it sends task events only when it is asked to."""
    options = ("--without-mingle", "--without-gossip")
    url = place.server.url_of(VHOST)
    running = started(CeleryWorker, url, "tests.celery_app:app", node=WORKER, pool="threads", events=False, options=options)
    yield running
    running.close()


def looking(url: str, *queues: str) -> RabbitmqProbe:
    settings = RabbitmqSettings.model_validate({"type": "rabbitmq", "url": url, "queues": queues})
    return RabbitmqProbe("rabbitmq", settings, Runtime("tests", Resolver()))


async def lost_and_closed(probe: RabbitmqProbe) -> frozenset[str]:
    missing = await lost(probe)
    await probe.aclose()
    return missing


async def test_every_collector_reads_all_with_the_granted_login(place: Place) -> None:
    """A round trip, and the named queue; no capability lacks."""
    probe = looking(place.url, "orders")
    assert {has.feature for has in (await probe.check()).capabilities if has.available} == {"round_trip", "queues"}
    assert await lost_and_closed(probe) == frozenset()


async def test_tasks_are_counted_with_the_granted_login(place: Place, worker: CeleryWorker) -> None:
    """Events switched on, heard and counted; the worker is seen, and the length of its queue."""
    app = application(place.server.url_of(VHOST))
    probe = probe_of(place.url, f"test-{secrets.token_hex(3)}", workers=[WORKER], enable_task_events=True)
    async with listening(probe) as watched:
        await eventually(lambda: watched.path_up == 1, 10)
        for _ in range(7):
            await asyncio.to_thread(app.send_task, "shop.add", (1, 2))
        await eventually(lambda: watched.tasks(name="shop.add").get("succeeded") == 7, 10)
        assert await watched.workers() == {WORKER: 1}
        assert await lost(probe) == frozenset()
    app.close()


async def test_before_the_first_worker_came_it_is_deaf_and_then_hears(place: Place) -> None:
    """Workers make the exchange of events, which our login may not; what needs it begins by itself when it is there."""
    server, vhost = place.server, f"new-{secrets.token_hex(4)}"
    newcomer = user_with(place.rights, vhost)
    server.define(vhosts=[vhost], users=[newcomer, User(server.user, server.password, vhost=vhost, tags="administrator")])
    url = server.url_of(vhost, user=newcomer.name, password=newcomer.password)
    async with listening(probe_of(url, "new", workers=[WORKER])) as watched:
        await eventually(lambda: watched.path_up == 0, 5)
        assert watched.ended[0].reason is Reason.FORBIDDEN
        application_connection = await aio_pika.connect(server.url_of(vhost))
        await (await application_connection.channel()).declare_exchange("celeryev", "topic", durable=True)
        await eventually(lambda: watched.path_up == 1, 5)
        await application_connection.close()
    server.control("delete_vhost", vhost)


def test_every_right_of_the_script_has_its_row(place: Place) -> None:
    """The README says what each is for; what follows shows it."""
    for of, rows in (("RabbitMQ", ROWS), ("Celery over RabbitMQ", CELERY_ROWS)):
        assert {right for whose, right in place.without if whose == of} == rows.keys()


@pytest.mark.parametrize(("right", "names"), ROWS.items(), ids=ROWS)
async def test_without_a_right_exactly_this_is_lost(place: Place, right: str, names: frozenset[str]) -> None:
    """A right without which nothing is lost is one too many. Where no queue is named that could be looked at, it is everything."""
    url = place.lacking("RabbitMQ", right)
    assert await lost_and_closed(looking(url, "orders")) == names
    assert await lost_and_closed(looking(url)) == {"rabbitmq_up"}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("right", "names"), CELERY_ROWS.items(), ids=CELERY_ROWS)
async def test_without_a_right_exactly_this_is_lost_of_celery(place: Place, right: str, names: frozenset[str]) -> None:
    """The same for Celery; what is lost of its events is told, and costs no more than them."""
    url = place.lacking("Celery over RabbitMQ", right)
    assert await lost_of_celery(probe_of(url, f"test-{secrets.token_hex(3)}", workers=[WORKER], timeout="1s")) == names


async def test_the_script_gives_a_new_password_and_takes_back_what_was_more(place: Place) -> None:
    """Run again it changes the password, which no list of processes shows, and an administrator is none any more."""
    server = place.server
    server.define(users=[User(LOGIN, "the old one", vhost=VHOST, tags="administrator")])
    spy = server.write(server.folder / "spy.sh", f'echo "$@" >>"$HOME/asked"\nexec {server._scripts}/rabbitmqctl "$@"\n'.encode())
    grant_rabbitmq(server, command(SCRIPT), RABBITMQCTL=f"sh {spy}")
    only_looks_at_rabbitmq(Definitions.of(server), LOGIN)
    asked = (server.folder / "asked").read_text()
    assert re.findall(r"(?m)^-q (\w+)", asked) == ["list_users", "change_password", "set_user_tags", "set_permissions"]
    assert "l00k" not in asked
    assert await lost_and_closed(looking(place.url)) == frozenset()
    assert await lost_and_closed(looking(server.url_of(VHOST, user=LOGIN, password="the old one"))) == {"rabbitmq_up"}


@pytest.mark.parametrize(("arguments", "password"), [("", ""), ("trading", PASSWORD), ("-x", PASSWORD), ("-p", PASSWORD)])
def test_a_usage_error_is_a_plain_sentence_and_status_2(arguments: str, password: str) -> None:
    """No node is asked anything."""
    ended = run(f"{SCRIPT} {arguments}", {"SIDECAR_PASSWORD": password, "RABBITMQCTL": "false"})
    assert ended.returncode == 2
    assert ended.stderr.endswith("usage: SIDECAR_PASSWORD=... rabbitmq.sh [-c] [-p VHOST]\n")


def test_a_virtual_host_that_is_not_there_fails_the_script(place: Place) -> None:
    """Nobody goes on in the belief that all is granted."""
    environment = {"RABBITMQCTL": f"{place.server._scripts}/rabbitmqctl", **place.server.environment()}
    ended = run(f"{SCRIPT} -p nowhere", environment)
    assert ended.returncode != 0
    assert "nowhere" in ended.stderr


def test_a_login_that_can_do_more_does_not_pass_for_granted(place: Place) -> None:
    """A test of rights that comes as one proves nothing; the guard on ours is no formality."""
    everything = User(f"boss-{secrets.token_hex(4)}", "boss", vhost=VHOST)
    place.server.define(users=[everything])
    told = Definitions.of(place.server)
    for name in (place.server.user, everything.name):
        with pytest.raises(AssertionError):
            only_looks_at_rabbitmq(told, name)


@pytest.mark.parametrize(
    "pattern", [".*", "", "exporter", "^exporter|^orders$", "^celery", "^(exporter\\.|amq.)", "amq\\.default$"]
)
def test_a_pattern_that_lacks_an_anchor_does_not_pass_for_ours(pattern: str) -> None:
    """RabbitMQ grants what a pattern finds anywhere in a name."""
    assert strangers_in(pattern) != []
