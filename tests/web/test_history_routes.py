"""The past of a probe over HTTP."""

import json
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exporter.config import Web
from exporter.demo.servers import Redis
from exporter.model import CHECK, Availability, Change, History, Outcome, PastRun, Phase, Reason, Status
from exporter.secret import Secret
from tests.running import Running
from tests.servers import closed_port, eventually
from tests.web.serving import DB, FIVE, NO_PAST, WALL, Stand, serving

RUN = PastRun(CHECK, Outcome.SUCCESS, WALL - 4, 0.0031415926, None, 0)
FAILED = PastRun(CHECK, Outcome.FAILURE, WALL - 70.5, 5.0, Reason.TIMEOUT, 2)
FAILURE = PastRun(
    CHECK,
    Outcome.FAILURE,
    WALL - 70.5,
    5.0,
    Reason.TIMEOUT,
    2,
    "connect 10.0.0.7:5432: no answer within 5s",
    (Phase("resolve db.internal", 0.0021), Phase("connect 10.0.0.7:5432", 4.9978)),
)
CHANGE = Change(WALL - 65, Status.HEALTHY, Status.UNHEALTHY, Reason.TIMEOUT, "connect 10.0.0.7:5432: no answer within 5s")
PAST = History(
    runs=(RUN, FAILED),
    failures=(FAILURE,),
    changes=(Change(WALL - 55, Status.UNHEALTHY, Status.HEALTHY), CHANGE),
    availability={"1h": Availability(3589.95, 3600.0), "24h": Availability(0.0, 0.0)},
)
PATH = "/api/v1/probes/db/history"

PrivateRedis = Callable[..., Awaitable[Redis]]


async def asked(stand: Stand, path: str = PATH, authorization: str = "") -> Any:
    return json.loads((await stand.ask(path, Authorization=authorization)).body)


async def test_the_past_of_a_probe_as_json() -> None:
    """Every key as promised, newest first, times as in /health."""
    async with serving(*FIVE, pasts={"db": PAST}) as stand:
        answer = await stand.ask(PATH)
    assert (answer.code, answer.type) == (200, "application/json")
    assert answer.text.startswith('{\n  "name": "db",\n  "availability": {\n    "1h": 0.997208,')
    assert answer.text.endswith("}\n")
    assert json.loads(answer.body) == {
        "name": "db",
        "availability": {"1h": 0.997208, "24h": None},
        "observed_seconds": {"1h": 3600.0, "24h": 0.0},
        "changes": [
            {"time": "2026-11-24T04:04:11.123Z", "from": "unhealthy", "to": "healthy", "reason": None, "message": None},
            {
                "time": "2026-11-24T04:04:01.123Z",
                "from": "healthy",
                "to": "unhealthy",
                "reason": "timeout",
                "message": "connect 10.0.0.7:5432: no answer within 5s",
            },
        ],
        "failures": [
            {
                "time": "2026-11-24T04:03:55.623Z",
                "collector": "check",
                "reason": "timeout",
                "message": "connect 10.0.0.7:5432: no answer within 5s",
                "duration_seconds": 5.0,
                "retries": 2,
                "phases": [
                    {"what": "resolve db.internal", "seconds": 0.0021},
                    {"what": "connect 10.0.0.7:5432", "seconds": 4.9978},
                ],
            }
        ],
        "runs": [
            {"time": "2026-11-24T04:05:02.123Z", "outcome": "success", "reason": None, "duration_seconds": 0.003142, "retries": 0},
            {"time": "2026-11-24T04:03:55.623Z", "outcome": "failure", "reason": "timeout", "duration_seconds": 5.0, "retries": 2},
        ],
    }


async def test_an_alias_names_the_probe_and_an_unknown_name_those_that_exist() -> None:
    """As everywhere; a probe that has no past yet has empty lists, not a 404."""
    async with serving(*FIVE, pasts={"db": PAST}) as stand:
        assert await asked(stand, "/api/v1/probes/database/history") == await asked(stand)
        nothing = await asked(stand, "/api/v1/probes/report/history")
        assert (nothing["runs"], nothing["failures"], nothing["changes"]) == ([], [], [])
        unknown = await stand.ask("/api/v1/probes/nobody/history")
        sentence = "no such probe; there are: binance, celery, database, db, rabbitmq, report"
        assert (unknown.code, json.loads(unknown.body)) == (404, {"error": sentence})


async def test_without_the_token_no_message_and_no_wait_is_told() -> None:
    """A wait names hosts as a message does; reasons, times and outcomes stay, and so do the keys."""
    web = Web(details="authorized", token=Secret("s3cret"))
    async with serving(DB, web=web, pasts={"db": PAST}) as stand:
        answer = await stand.ask(PATH)
        assert "10.0.0.7" not in answer.text
        assert "db.internal" not in answer.text
        told = json.loads(answer.body)
        assert (told["failures"][0]["message"], told["failures"][0]["phases"]) == (None, None)
        assert (told["failures"][0]["reason"], told["changes"][1]["message"]) == ("timeout", None)
        shown = await asked(stand, authorization="Bearer s3cret")
        assert shown["failures"][0]["phases"][1]["what"] == "connect 10.0.0.7:5432"
        assert shown["changes"][1]["message"] == shown["failures"][0]["message"] == FAILURE.message
        assert [list(one) for one in told["failures"]] == [list(one) for one in shown["failures"]]


async def test_a_message_of_the_past_holds_nothing_a_terminal_would_obey() -> None:
    """It is read with curl, as those of the present are."""
    bad = PastRun(CHECK, Outcome.FAILURE, WALL, 0.1, Reason.PROTOCOL, 0, "\x1b[2J\nrm")
    async with serving(DB, pasts={"db": History((), (bad,), (), NO_PAST.availability)}) as stand:
        assert (await asked(stand))["failures"][0]["message"] == "[2J rm"


@pytest.mark.parametrize("web", [Web(), Web(token=Secret("s3cret"))])
async def test_a_post_without_right_is_403(web: Web) -> None:
    """As at the other operations' paths; whoever has the right learns that there is nothing to change."""
    async with serving(DB, web=web) as stand:
        assert (await stand.ask(PATH, "POST")).code == 403
        if web.token is not None:
            assert (await stand.ask(PATH, "POST", Authorization="Bearer s3cret")).code == 501


async def test_the_list_of_probes_tells_their_availability() -> None:
    """Beside how much of the window was observed, for nine tenths of one minute are not nine tenths of a day."""
    async with serving(*FIVE, pasts={"db": PAST}) as stand:
        listed = (await asked(stand, "/api/v1/probes"))["probes"]
        assert (listed["db"]["availability"], listed["db"]["observed_seconds"]) == (
            {"1h": 0.997208, "24h": None},
            {"1h": 3600.0, "24h": 0.0},
        )
        assert listed["report"]["availability"] == {"1h": None, "24h": None}
        assert (await asked(stand, "/api/v1/probes/database"))["availability"]["1h"] == 0.997208


CONFIG = """
probes:
  cache: {{type: redis, url: "{url}", interval: 300ms, timeout: 300ms, retry: none}}
"""


def past(exporter: Running, name: str) -> Any:
    return json.loads(exporter.get(f"/api/v1/probes/{name}/history")[1])


def has_run(exporter: Running, name: str, times: int) -> bool:
    return len(past(exporter, name)["runs"]) >= times


async def test_a_server_that_freezes_leaves_its_trace(private_redis: PrivateRedis, tmp_path: Path) -> None:
    """From outside: the failure with what was waited for, both changes, and an availability below one once it is back."""
    redis = await private_redis()
    with Running(tmp_path, CONFIG.format(url=redis.url)) as exporter:
        await eventually(lambda: exporter.status("cache") == "healthy", 10)
        redis.freeze()
        await eventually(lambda: exporter.status("cache") == "unhealthy", 10)
        redis.thaw()
        await eventually(lambda: exporter.status("cache") == "healthy", 20)
        told = past(exporter, "cache")
    assert [(change["from"], change["to"]) for change in told["changes"]] == [
        ("unhealthy", "healthy"),
        ("healthy", "unhealthy"),
        ("unknown", "healthy"),
    ]
    first = [failure for failure in told["failures"] if failure["collector"] == "check"][-1]
    assert first["reason"] == "timeout"
    assert first["phases"][-1]["what"].endswith(f"127.0.0.1:{redis.port}")
    assert 0.2 < first["phases"][-1]["seconds"] <= first["duration_seconds"]
    assert 0.0 < told["availability"]["1h"] < 1.0
    assert told["availability"]["1h"] == told["availability"]["24h"]
    assert told["runs"][0]["outcome"] == "success"


TWO = """
defaults: {{timeout: 200ms, interval: 200ms}}
probes:
  same: {{type: redis, url: "redis://127.0.0.1:{port}"}}
  other: {{type: redis, url: "redis://127.0.0.1:{port}", interval: {interval}}}
"""


async def test_the_past_outlives_a_reload(tmp_path: Path) -> None:
    """Of a probe that nothing has changed for, and of one that was given another interval: it is the same target."""
    with closed_port() as port, Running(tmp_path, TWO.format(port=port, interval="200ms")) as exporter:
        for name in ("same", "other"):
            await eventually(partial(has_run, exporter, name, 2), 10)
        before = {name: past(exporter, name) for name in ("same", "other")}
        (tmp_path / "config.yaml").write_text(TWO.format(port=port, interval="250ms"))
        exporter.process.send_signal(signal.SIGHUP)
        await eventually(lambda: "changed other" in exporter.said, 10)
        for name, told in before.items():
            await eventually(partial(has_run, exporter, name, len(told["runs"]) + 1), 10)
            assert past(exporter, name)["runs"][-len(told["runs"]) :] == told["runs"]
            assert past(exporter, name)["failures"][-1] == told["failures"][-1]
        steps = past(exporter, "other")["changes"][::-1]
        assert all(step["from"] == before["to"] for before, step in pairwise(steps))  # what begins anew is unknown at first
