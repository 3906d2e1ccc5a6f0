"""The JSON bodies over HTTP, byte by byte where they are a contract."""

import json
import math
from dataclasses import replace
from decimal import Decimal

from exporter.config import Web
from exporter.model import CircuitState, CircuitStatus, CollectorStatus, ProbeStatus, Reason
from exporter.secret import Secret
from exporter.web.health_json import encode
from tests.web.serving import BINANCE, CELERY, DB, FIVE, NOW, RABBITMQ, healthy, serving

BODY = """\
{
  "status": "unhealthy",
  "time": "2026-11-24T04:05:06.123Z",
  "version": "0.1.0",
  "uptime_seconds": 912.4,
  "root_causes": [
    "rabbitmq"
  ],
  "probes": {
    "rabbitmq": {
      "status": "unhealthy",
      "type": "rabbitmq",
      "critical": true,
      "reason": "refused",
      "message": "connect 10.0.0.7:5672: connection refused",
      "since": "2026-11-24T04:02:52.123Z",
      "last_run": "2026-11-24T04:05:02.023Z",
      "last_success": "2026-11-24T04:02:47.123Z",
      "age_seconds": 4.1,
      "duration_seconds": 0.003,
      "consecutive_failures": 9,
      "stale": false,
      "caused_by": [],
      "circuit": {
        "state": "open",
        "next_attempt_in_seconds": 23.4
      },
      "detail": {},
      "collectors": {
        "queues": {
          "success": false,
          "reason": "timeout",
          "age_seconds": 12.0,
          "duration_seconds": 1.0
        }
      }
    },
    "new": {
      "status": "unknown",
      "type": "http",
      "critical": true,
      "reason": null,
      "message": null,
      "since": null,
      "last_run": null,
      "last_success": null,
      "age_seconds": null,
      "duration_seconds": null,
      "consecutive_failures": 0,
      "stale": false,
      "caused_by": [],
      "circuit": {
        "state": "closed",
        "next_attempt_in_seconds": null
      },
      "detail": {},
      "collectors": {
        "phases": {
          "success": null,
          "reason": null,
          "age_seconds": null,
          "duration_seconds": null
        }
      }
    }
  }
}
"""

NEW = ProbeStatus("new", "http", collectors=(CollectorStatus("phases"),))


async def test_the_aggregate_is_exactly_the_contract() -> None:
    """Scripts at users' sites read these keys; additions only."""
    async with serving(NEW, RABBITMQ) as stand:
        for path in ("/health", "/api/v1/health", "/health?format=JSON"):
            answer = await stand.ask(path)
            assert (answer.code, answer.type, answer.text) == (503, "application/json", BODY)


async def test_one_probe_is_its_object_with_its_name() -> None:
    """The same object as in the aggregate, so that one parser reads both."""
    async with serving(*FIVE) as stand:
        aggregate = json.loads((await stand.ask("/health")).body)
        for path in ("/health/celery", "/api/v1/health/celery"):
            answer = await stand.ask(path)
            alone = json.loads(answer.body)
            assert answer.code == 503
            assert next(iter(alone)) == "name"
            assert alone == {"name": "celery", **aggregate["probes"]["celery"]}
            assert answer.text == json.dumps(alone, indent=2) + "\n"
        assert alone["caused_by"] == ["rabbitmq"]


async def test_an_alias_answers_with_the_probes_own_name() -> None:
    """/health/database was the path before; the name is what metrics say."""
    async with serving(*FIVE) as stand:
        answer = await stand.ask("/health/database")
        assert answer.code == 200
        assert json.loads(answer.body)["name"] == "db"


async def test_what_is_healthy_has_neither_reason_nor_message() -> None:
    """Both are null when healthy, whatever was remembered."""
    async with serving(replace(DB, reason=Reason.SLOW, message="took 2s")) as stand:
        alone = json.loads((await stand.ask("/health/db")).body)
        assert (alone["status"], alone["reason"], alone["message"]) == ("healthy", None, None)


async def test_codes_follow_the_status() -> None:
    """Degraded is served; unhealthy and unknown are not; strict is for deploy gates."""
    cases = [
        ("/health", (DB,), 200),
        ("/health", (DB, BINANCE), 200),
        ("/health?strict", (DB, BINANCE), 503),
        ("/health?strict=1", (DB, BINANCE), 503),
        ("/health?strict=false", (DB, BINANCE), 200),
        ("/health?strict", (DB,), 200),
        ("/health", (DB, RABBITMQ), 503),
        ("/health", (NEW,), 503),
        ("/health", (), 503),
        ("/health", (replace(DB, overdue=NOW - 1),), 503),
        ("/health/binance", (DB, BINANCE), 200),
        ("/health/binance?strict", (DB, BINANCE), 503),
        ("/health/db", (DB, RABBITMQ), 200),
    ]
    for path, probes, code in cases:
        async with serving(*probes) as stand:
            assert (await stand.ask(path)).code == code, (path, probes)


async def test_exclude_takes_lists_repetitions_and_aliases_and_ignores_the_unknown() -> None:
    """A gate that leaves one probe out must go on working when that probe is renamed away."""
    async with serving(*FIVE) as stand:
        answer = await stand.ask("/health?exclude=rabbitmq,celery&exclude=database&exclude=nobody,%20,")
        assert answer.code == 200
        body = json.loads(answer.body)
        assert (list(body["probes"]), body["status"], body["root_causes"]) == (["binance", "report"], "degraded", [])


async def test_stale_shows_as_unknown() -> None:
    """A dead scheduler cannot stay green."""
    async with serving(replace(DB, overdue=NOW - 1)) as stand:
        alone = json.loads((await stand.ask("/health/db")).body)
        assert (alone["status"], alone["stale"]) == ("unknown", True)


async def test_details_need_the_token_where_so_configured() -> None:
    """The keys stay, so that a parser of the full body reads this one too."""
    web = Web(token=Secret("s3cret"), details="authorized")
    async with serving(*FIVE, web=web) as stand:
        for authorization in ("", "Bearer wrong"):
            body = json.loads((await stand.ask("/health", Authorization=authorization)).body)
            assert all(probe["message"] is None and probe["detail"] is None for probe in body["probes"].values())
            assert body["probes"]["rabbitmq"]["reason"] == "refused"
        body = json.loads((await stand.ask("/health", Authorization="Bearer s3cret")).body)
        assert body["probes"]["rabbitmq"]["message"] == "connect 10.0.0.7:5672: connection refused"
        assert body["probes"]["db"]["detail"] == {"server_version": "15.4", "tls": False}


async def test_odd_values_of_a_target_cost_nothing_but_themselves() -> None:
    """NaN is no JSON, a lone surrogate no UTF-8, a Decimal no number that JSON knows; a message is one line."""
    odd = {"ratio": math.nan, "raw": "a\udc80b", "exact": Decimal("1.5"), "list": ("x", [1, {}]), "none": []}
    message = "two\nlines\x1b[31m of \x00" + "x" * 300
    async with serving(replace(BINANCE, detail=odd, message=message)) as stand:
        answer = await stand.ask("/health/binance")
        alone = json.loads(answer.body)
        assert alone["detail"] == {"ratio": None, "raw": "a\udc80b", "exact": "1.5", "list": ["x", [1, {}]], "none": []}
        assert alone["message"].startswith("two lines [31m of xxx")
        assert len(alone["message"]) == 200


async def test_a_wait_that_is_over_is_zero() -> None:
    """The trial is due but has not begun: never a negative wait."""
    circuit = CircuitStatus(CircuitState.OPEN, NOW - 3)
    async with serving(replace(CELERY, circuit=circuit)) as stand:
        assert json.loads((await stand.ask("/health/celery")).body)["circuit"]["next_attempt_in_seconds"] == 0.0


async def test_probes_and_circuits_can_be_listed() -> None:
    """The lists are there whatever the targets do, so their code is 200."""
    async with serving(*FIVE) as stand:
        probes = await stand.ask("/api/v1/probes")
        assert (probes.code, probes.type) == (200, "application/json")
        assert json.loads(probes.body)["probes"]["celery"] == {
            "type": "celery",
            "enabled": True,
            "critical": True,
            "aliases": [],
            "depends_on": ["rabbitmq"],
            "status": "unhealthy",
            "circuit": {"state": "closed", "next_attempt_in_seconds": None},
            "availability": {"1h": None, "24h": None},
            "observed_seconds": {"1h": 0.0, "24h": 0.0},
        }
        assert json.loads((await stand.ask("/api/v1/probes/database")).body)["name"] == "db"
        circuits = json.loads((await stand.ask("/api/v1/circuits")).body)["circuits"]
        assert list(circuits) == [probe.name for probe in FIVE]
        one = json.loads((await stand.ask("/api/v1/circuits/rabbitmq")).body)
        assert one == {"name": "rabbitmq", "state": "open", "next_attempt_in_seconds": 23.4}


def test_the_encoder_writes_what_the_library_would() -> None:
    """It replaces json.dumps(indent=2) for speed alone."""
    document = {"a": [], "b": {}, "c": [1, [2.5, None]], "d": {"e": True, "f": 'q"\n…', "g": 10**20}, "h": (False,)}
    assert encode(document).decode() == json.dumps(document, indent=2, ensure_ascii=False) + "\n"


async def test_a_thousand_probes_are_told_too() -> None:
    """No list is cut."""
    async with serving(*(healthy(f"p{number}") for number in range(1000))) as stand:
        assert len(json.loads((await stand.ask("/health")).body)["probes"]) == 1000
