"""What a look at the workers means."""

from collections.abc import Mapping

import pytest

from exporter.errors import AssertionFailed
from exporter.model import Reading, Reason
from exporter.probes.celery.settings import CelerySettings
from exporter.probes.celery.verdict import Found, judge


def settings(url: str = "amqp://mq", /, **keys: object) -> CelerySettings:
    return CelerySettings.model_validate({"type": "celery", "broker_url": url, **keys})


def found(lives: Mapping[str, bool], *, unheard: Mapping[str, bool] | None = None, second_consumer: bool = False) -> Found:
    return Found(lives, unheard or {}, "heard", second_consumer, "exporter.default.events", "3.10.8", encrypted=False)


def refused(lives: Mapping[str, bool], wanted: CelerySettings) -> AssertionFailed:
    with pytest.raises(AssertionFailed) as caught:
        judge(found(lives), wanted)
    assert caught.value.reading is not None
    return caught.value


@pytest.mark.parametrize(
    ("lives", "wanted", "message"),
    [
        ({}, settings(), "no worker on rabbitmq mq:5672; start one, or see that broker_url is its broker"),
        ({}, settings().as_inferred(), "no worker on rabbitmq; set CELERY_BROKER_URL if Celery uses Redis"),
        ({}, settings("redis://c").as_inferred(), "no worker on redis; set CELERY_BROKER_URL if Celery uses RabbitMQ"),
        ({"a@h": False}, settings().as_inferred(), "0 of 1 workers up on rabbitmq mq:5672; no answer from a@h"),
        ({"a@h": True}, settings(min_workers=3), "1 of 3 workers up on rabbitmq mq:5672"),
        ({"a@h": True, "b@h": False}, settings(min_workers=2), "1 of 2 workers up on rabbitmq mq:5672; no answer from b@h"),
        ({"a@h": True, "b@h": False}, settings(workers=["a@h", "b@h"]), "no answer from b@h on rabbitmq mq:5672"),
        ({"c@h": True}, settings(workers=["a@h", "b@h"]), "no answer from a@h, b@h on rabbitmq mq:5672"),
    ],
)
def test_missing_workers_fail_the_check_and_are_named(lives: dict[str, bool], wanted: CelerySettings, message: str) -> None:
    """The series of those that are there, and of those that are not, stay."""
    failed = refused(lives, wanted)
    assert (failed.reason, failed.message) == (Reason.ASSERTION, message)
    assert failed.reading is not None
    assert dict(failed.reading.families[0].rows) == {(name,): int(up) for name, up in lives.items()}


def test_enough_workers_are_healthy_although_one_is_down() -> None:
    """Which are to be there is the operator's to say."""
    reading = judge(found({"a@h": True, "b@h": False}), settings())
    assert (reading.degraded, reading.message) == (None, None)
    assert (reading.detail["workers"], reading.detail["workers_down"]) == (["a@h"], ["b@h"])


def test_no_worker_at_all_can_be_enough() -> None:
    """With min_workers 0 the broker alone is asked."""
    assert judge(found({}), settings(min_workers=0)).detail["task_events"] == "no worker"


def test_a_second_consumer_degrades() -> None:
    """The message says what it does, and what to do."""
    reading = judge(found({"a@h": True}, second_consumer=True), settings())
    assert reading.degraded is Reason.CONFIG
    assert reading.message == (
        "a second consumer on exporter.default.events takes part of the events; give each exporter an `instance` of its own"
    )


@pytest.mark.parametrize(
    ("unheard", "keys", "begins", "known"),
    [
        ({}, {}, "on", (True,)),
        ({"a@h": True}, {}, "off on a@h: start the workers with -E", (False,)),
        ({"a@h": False}, {}, "none seen yet from a@h; where they are off, start the workers with -E", ()),
        ({"a@h": False}, {"enable_task_events": True}, "on, by enable_task_events; none seen yet", ()),
    ],
)
def test_task_events_are_told_with_both_ways_to_switch_them_on(
    unheard: dict[str, bool], keys: dict[str, object], begins: str, known: tuple[bool, ...]
) -> None:
    """Where they are off, most numbers are absent, and only this says why."""
    reading: Reading = judge(found({"a@h": True}, unheard=unheard), settings(**keys))
    told = str(reading.detail["task_events"])
    assert told.startswith(begins)
    assert ("enable_task_events: true" in told) == ("-E" in told)
    assert tuple(capability.available for capability in reading.capabilities) == known
