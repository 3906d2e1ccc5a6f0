"""A Celery application as others write them, for workers that tests start; broker and result backend come from the environment.

In a test: `CeleryWorker(url, "tests.celery_app:app")`, and `application(url)` to send it tasks.
"""

import os
import time

from celery import Celery, Task


def application(broker_url: str) -> Celery:
    """The application with its tasks, bound to one broker; results are thrown away."""
    made = Celery("shop", broker=broker_url)
    made.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, task_send_sent_event=True)
    made.task(name="shop.add")(add)
    made.task(name="shop.fail")(fail)
    made.task(name="shop.nap")(nap)
    made.task(name="shop.stubborn", bind=True, max_retries=1)(stubborn)
    return made


def add(left: int, right: int) -> int:
    return left + right


def fail(text: str = "on purpose") -> None:
    raise ValueError(text)


def nap(seconds: float) -> None:
    time.sleep(seconds)


def stubborn(self: "Task[[], None]") -> None:
    """Is retried once at once, then fails."""
    raise self.retry(countdown=0, exc=ValueError("again"))


app = application(os.environ.get("CELERY_BROKER_URL", "memory://"))
