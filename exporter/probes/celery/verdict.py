"""What a look at the workers means: healthy, degraded or failed, and the sentence for whoever asks. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.errors import MESSAGE_LENGTH, AssertionFailed
from exporter.model import Capability, Family, Reading, Reason
from exporter.probes.celery.metrics import WORKER_UP
from exporter.probes.celery.protocol import first_of
from exporter.probes.celery.settings import RABBITMQ, CelerySettings
from exporter.secret import one_line

MOST_NAMED = 3
MOST_LISTED = 50
SWITCH_ON = "start the workers with -E (or worker_send_task_events = True), or set enable_task_events: true here"


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found. `lives` says of each worker whether it lives, `unheard` of those that do and were not heard to send a
    task event whether theirs are off; `events` is how the event path stands."""

    lives: Mapping[str, bool]
    unheard: Mapping[str, bool]
    events: str
    second_consumer: bool
    event_queue: str
    version: str
    encrypted: bool


def judge(found: Found, settings: CelerySettings) -> Reading:
    """The reading of a good check.

    Raises:
        AssertionFailed: workers that are expected are not up; it carries the reading.
    """
    reading = Reading(
        families=(Family(WORKER_UP, tuple(((name,), int(lives)) for name, lives in found.lives.items())),),
        detail=_detail(found, settings),
        capabilities=_capabilities(found),
    )
    missing = _missing(found, settings)
    if missing is not None:
        raise AssertionFailed(one_line(missing, MESSAGE_LENGTH), reading=reading)
    if not found.second_consumer:
        return reading
    message = f"a second consumer on {found.event_queue} takes part of the events; give each exporter an `instance` of its own"
    return Reading(reading.families, reading.detail, Reason.CONFIG, one_line(message, MESSAGE_LENGTH), reading.capabilities)


def _missing(found: Found, settings: CelerySettings) -> str | None:
    """What is wrong with the workers; None when nothing is."""
    if settings.workers:
        silent = [name for name in settings.workers if not found.lives.get(name)]
        return f"no answer from {first_of(silent, MOST_NAMED)} on {_place(settings)}" if silent else None
    up = sum(found.lives.values())
    if up >= settings.min_workers:
        return None
    down = [name for name, lives in found.lives.items() if not lives]
    if down:
        return f"{up} of {settings.min_workers} workers up on {_place(settings)}; no answer from {first_of(down, MOST_NAMED)}"
    if up:
        return f"{up} of {settings.min_workers} workers up on {_place(settings)}"
    if settings.inferred:
        other = "Redis" if settings.broker == RABBITMQ else "RabbitMQ"
        return f"no worker on {settings.broker}; set CELERY_BROKER_URL if Celery uses {other}"
    return f"no worker on {_place(settings)}; start one, or see that broker_url is its broker"


def _place(settings: CelerySettings) -> str:
    return f"{settings.broker} {settings.server.place}"


def _detail(found: Found, settings: CelerySettings) -> dict[str, object]:
    up = [name for name, lives in found.lives.items() if lives]
    down = [name for name, lives in found.lives.items() if not lives]
    return {
        "broker": settings.broker,
        "version": found.version,
        "tls": found.encrypted,
        "workers": up[:MOST_LISTED],
        "workers_down": down[:MOST_LISTED],
        "events": found.events,
        "task_events": _task_events(found, settings, up),
    }


def _task_events(found: Found, settings: CelerySettings, up: list[str]) -> str:
    if not up:
        return "no worker"
    off = [name for name, is_off in found.unheard.items() if is_off]
    if off:
        return f"off on {first_of(off, MOST_NAMED)}: {SWITCH_ON}"
    if not found.unheard:
        return "on"
    if settings.enable_task_events:
        return "on, by enable_task_events; none seen yet"
    return f"none seen yet from {first_of(found.unheard, MOST_NAMED)}; where they are off, {SWITCH_ON}"


def _capabilities(found: Found) -> tuple[Capability, ...]:
    """Known once a task has run on each: a worker that is idle does not tell."""
    if any(found.unheard.values()):
        return (Capability("task_events", available=False, cure=SWITCH_ON),)
    if any(found.lives.values()) and not found.unheard:
        return (Capability("task_events", available=True, cure=SWITCH_ON),)
    return ()
