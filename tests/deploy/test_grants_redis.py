"""`deploy/grants/redis.acl`, given to a real server: what its two logins read, and what each word of it is for."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator

import pytest
from redis import Redis as Client
from redis.exceptions import AuthenticationError, NoPermissionError

from exporter.demo.servers import CeleryWorker, Redis
from exporter.drivers.dns import Resolver
from exporter.errors import AssertionFailed, ProbeError
from exporter.probes.base import Runtime
from exporter.probes.celery.probe import CeleryProbe
from exporter.probes.redis.probe import RedisProbe
from exporter.probes.redis.settings import RedisSettings
from tests.celery_app import application
from tests.celery_stage import listening, probe_of
from tests.deploy.granted import (
    CELERY_LOGIN,
    GRANTS,
    LOGIN,
    PASSWORD,
    grant_redis,
    lost,
    lost_of_celery,
    only_looks_at_redis,
    rights,
)
from tests.servers import eventually, started

WORKER, GONE = "w1@here", "gone@here"
FILE = (GRANTS / "redis.acl").read_text()
LINES = {line.split()[1]: line.split()[2:] for line in FILE.splitlines()}
ROWS, CELERY_ROWS = rights("Redis"), rights("Celery over Redis")


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """Where the README's command has been given, twice; its logins can do no more than look."""
    running = started(Redis)
    for _ in range(2):
        grant_redis(running)
    with Client.from_url(running.url) as client:
        for user in (LOGIN, CELERY_LOGIN):
            only_looks_at_redis(client, user)
    yield running
    running.close()


@pytest.fixture(scope="module")
def worker(server: Redis) -> Iterator[CeleryWorker]:
    """Started without -E: it sends task events only when it is asked to."""
    options = ("--without-mingle", "--without-gossip")
    running = started(CeleryWorker, server.url, "tests.celery_app:app", node=WORKER, pool="threads", events=False, options=options)
    yield running
    running.close()


def url_of(server: Redis, user: str, db: int = 0) -> str:
    return server.url_of(db, username=user, password=PASSWORD)


def looking(server: Redis, user: str) -> RedisProbe:
    settings = RedisSettings.model_validate({"type": "redis", "url": url_of(server, user)})
    return RedisProbe("redis", settings, Runtime("tests", Resolver()))


def celery_looking(server: Redis, user: str, *workers: str, **keys: object) -> CeleryProbe:
    instance = f"test-{secrets.token_hex(3)}"
    return probe_of(url_of(server, user), instance, workers=workers, timeout="1s", enable_task_events=True, **keys)


def without(server: Redis, user: str, right: str) -> str:
    """A user with the words of that line but one, by name."""
    name = f"{user}-{secrets.token_hex(4)}"
    words = [word for word in LINES[user] if word not in (right, "resetpass")]
    with Client.from_url(server.url) as client:
        client.execute_command("ACL SETUSER", name, *words, f">{PASSWORD}")
    return name


async def lost_with(server: Redis, user: str) -> frozenset[str]:
    """`lost` of Celery, and the worker's state where another one is silent: then the server itself is asked whether it lives."""
    missing = await lost_of_celery(celery_looking(server, user, WORKER))
    if missing:
        return missing
    probe = celery_looking(server, user, WORKER, GONE)
    try:
        await probe.check()
    except AssertionFailed:
        return missing
    except ProbeError:
        return frozenset({"celery_worker_up"})
    finally:
        await probe.aclose()
    pytest.fail("nobody misses the worker that is gone")


async def test_every_collector_reads_all_with_the_granted_login(server: Redis) -> None:
    """On both protocols: RESP3's greeting needs no right of its own."""
    for protocol in (3, 2):
        settings = RedisSettings.model_validate({"type": "redis", "url": f"{url_of(server, LOGIN)}?protocol={protocol}"})
        probe = RedisProbe("redis", settings, Runtime("tests", Resolver()))
        assert await lost(probe) == frozenset()
        await probe.aclose()


async def test_tasks_are_counted_with_the_granted_login(server: Redis, worker: CeleryWorker) -> None:
    """Events switched on, heard and counted; workers seen, the dead one told as dead; lengths of all priorities read."""
    assert await lost_with(server, CELERY_LOGIN) == frozenset()
    app = application(server.url)
    async with listening(celery_looking(server, CELERY_LOGIN, WORKER)) as watched:
        await eventually(lambda: watched.path_up == 1, 5)
        for _ in range(7):
            await asyncio.to_thread(app.send_task, "shop.add", (1, 2))
        await eventually(lambda: watched.tasks(name="shop.add").get("succeeded") == 7, 10)
        assert await watched.workers() == {WORKER: 1}
    app.close()


@pytest.mark.usefixtures("worker")
async def test_another_database_needs_what_the_readme_says(server: Redis) -> None:
    """Its number in the names of channels, and +select."""
    name = f"{CELERY_LOGIN}-{secrets.token_hex(4)}"
    words = [word.replace("&/0.", "&/5.") for word in LINES[CELERY_LOGIN] if word != "resetpass"]
    with Client.from_url(server.url) as client:
        client.execute_command("ACL SETUSER", name, *words, f">{PASSWORD}", "+select")
    probe = probe_of(url_of(server, name, 5), f"test-{secrets.token_hex(3)}", min_workers=0)
    assert await lost_of_celery(probe) == frozenset()


async def test_the_lines_may_stand_in_an_acl_file(private_redis: Callable[..., Awaitable[Redis]]) -> None:
    """Which a server reads at start; one comment in it, and the server would not start."""
    word = f"#{hashlib.sha256(PASSWORD.encode()).hexdigest()}"
    server = await private_redis(acl=[line.replace("resetpass", word) for line in FILE.splitlines()])
    probe = looking(server, LOGIN)
    assert await lost(probe) == frozenset()
    await probe.aclose()


def test_every_right_of_the_file_has_its_row() -> None:
    """The README says what each is for; what follows shows it."""
    for user, rows in ((LOGIN, ROWS), (CELERY_LOGIN, CELERY_ROWS)):
        assert [word for word in LINES[user] if word[0].isalpha()] == ["reset", "on", "resetpass"]
        assert {word for word in LINES[user] if word[0] in "+~&%("} == rows.keys()


@pytest.mark.parametrize(("right", "names"), ROWS.items(), ids=ROWS)
async def test_without_a_right_exactly_this_is_lost(server: Redis, right: str, names: frozenset[str]) -> None:
    """A right without which nothing is lost is one too many."""
    probe = looking(server, without(server, LOGIN, right))
    assert await lost(probe) == names
    await probe.aclose()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("right", "names"), CELERY_ROWS.items(), ids=CELERY_ROWS)
async def test_without_a_right_exactly_this_is_lost_of_celery(server: Redis, right: str, names: frozenset[str]) -> None:
    """The same for Celery, whose broker would let go of more if it could."""
    assert await lost_with(server, without(server, CELERY_LOGIN, right)) == names


@pytest.mark.parametrize("command", ["DEL celery", "BRPOP celery 1", "LLEN celery-results", "LRANGE celery 0 -1", "KEYS *"])
def test_celerys_login_cannot_touch_what_waits(server: Redis, command: str) -> None:
    """It may ask how long a queue is, and neither see into it, nor take from it, nor remove it."""
    with Client.from_url(url_of(server, CELERY_LOGIN)) as looker:
        assert looker.llen("celery") == 0
        with pytest.raises(NoPermissionError):
            looker.execute_command(*command.split())


def test_the_file_as_it_stands_lets_nobody_in(server: Redis) -> None:
    """Whoever forgets the password has no login, instead of one with a password that everybody knows."""
    name = f"raw-{secrets.token_hex(4)}"
    with Client.from_url(server.url) as client:
        client.execute_command("ACL SETUSER", name, *LINES[LOGIN])
    for word in ("", "resetpass", PASSWORD):
        with pytest.raises(AuthenticationError), Client.from_url(server.url_of(username=name, password=word)) as client:
            client.ping()


@pytest.mark.parametrize("words", ["+@all", "+@read", "+ping ~*", "+ping %R~*", "+ping &*", "+ping nopass"])
def test_a_login_that_can_do_more_does_not_pass_for_granted(server: Redis, words: str) -> None:
    """A test of rights that comes with all of them proves nothing; the guard on ours is no formality."""
    name = f"boss-{secrets.token_hex(4)}"
    with Client.from_url(server.url) as client:
        client.execute_command("ACL SETUSER", name, "reset", "on", f">{PASSWORD}", "-@all", *words.split())
        with pytest.raises(AssertionError):
            only_looks_at_redis(client, name)


def test_the_default_user_does_not_pass_for_granted(server: Redis) -> None:
    """Who is, until somebody forbids it, everybody."""
    with Client.from_url(server.url) as client, pytest.raises(AssertionError):
        only_looks_at_redis(client, "default")
