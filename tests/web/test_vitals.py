"""Liveness, readiness and start-up speak of this process alone."""

from dataclasses import replace

import pytest

from exporter.config import Web
from exporter.model import Reload, Snapshot
from exporter.secret import Secret
from tests.web.serving import NOW, RABBITMQ, healthy, serving, snapshot, tally

ALL = ("/livez", "/readyz", "/startupz", "/-/healthy", "/-/ready")


@pytest.mark.parametrize("path", ALL)
async def test_no_target_and_no_token_stands_in_the_way(path: str) -> None:
    """A broken database must not get a pod restarted, and kubelet has no token."""
    async with serving(RABBITMQ, web=Web(token=Secret("s3cret"), details="authorized")) as stand:
        answer = await stand.ask(path, Accept="*/*", User_Agent="kube-probe/1.31")
        assert (answer.code, answer.type, answer.text) == (200, "text/plain; charset=utf-8", "ok")


async def codes(snap: Snapshot, *, started: bool = True, draining: bool = False) -> list[int]:
    """The codes of all five paths."""
    async with serving(snap=lambda: snap) as stand:
        stand.lifecycle.started, stand.lifecycle.draining = started, draining
        return [(await stand.ask(path)).code for path in ALL]


async def test_before_the_start_only_liveness_is_good() -> None:
    """Not started is no reason to be killed."""
    assert await codes(snapshot(RABBITMQ), started=False) == [200, 503, 503, 200, 503]


async def test_draining_ends_readiness_alone() -> None:
    """After SIGTERM traffic goes elsewhere, and nobody kills what is ending in order."""
    assert await codes(snapshot(RABBITMQ), draining=True) == [200, 503, 200, 200, 503]


async def test_a_silent_scheduler_or_a_lagging_loop_ends_liveness_alone() -> None:
    """Only what a restart cures."""
    assert await codes(replace(snapshot(), beat=NOW - 31)) == [503, 200, 200, 503, 200]
    assert await codes(replace(snapshot(), lags=(5.0, 6.0, 5.5))) == [503, 200, 200, 503, 200]
    assert await codes(replace(snapshot(), lags=(5.0, 6.0, 0.1))) == [200] * 5


async def test_nothing_but_these_two_ends_liveness() -> None:
    """Overdue and abandoned runs, a bad configuration, a loop that lags now and then: a restart would cure none of them."""
    bad = replace(
        snapshot(healthy("overdue", overdue=NOW - 1e6), RABBITMQ, replace(RABBITMQ, name="other", critical=True)),
        beat=NOW - 30,
        lags=(60.0, 60.0, 4.9, 60.0, 60.0),
        reload=Reload(successful=False, at=0.0, message="config.yaml:1:1: wrong"),
    )
    tallies = tuple(tally(probe.name, abandoned=10**6) for probe in bad.probes)
    assert await codes(replace(bad, tallies=tallies)) == [200] * 5


async def test_a_failing_check_says_what_fails() -> None:
    """In the body, so that `kubectl describe` shows it."""
    async with serving(snap=lambda: replace(snapshot(), beat=NOW - 31)) as stand:
        stand.lifecycle.draining = True
        assert (await stand.ask("/livez")).text == "scheduler: no heartbeat for 31s\n"
        assert (await stand.ask("/readyz")).text == "shutdown: draining after SIGTERM\n"
        stand.lifecycle.started = False
        assert (await stand.ask("/startupz")).text == "start-up: the configuration is not loaded yet\n"
