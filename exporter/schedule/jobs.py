"""What a probe's settings mean to the engine: the jobs of its check and its collectors, their retries, its circuit."""

from typing import Any

from exporter.circuit import CircuitPolicy
from exporter.model import CHECK, Metric
from exporter.probes.base import Collector, Probe, ProbeSettings, RetrySettings
from exporter.retry import PRESETS, RetryPolicy
from exporter.schedule.run import Job

AnyProbe = Probe[Any]


def retry_policy(settings: ProbeSettings) -> RetryPolicy:
    """The attempts of one run of such a probe."""
    chosen = settings.retry or settings.default_retry
    if isinstance(chosen, RetrySettings):
        return RetryPolicy(chosen.attempts, chosen.initial, chosen.max)
    return PRESETS[chosen]


def circuit_policy(settings: ProbeSettings) -> CircuitPolicy | None:
    """The circuit as configured, None where it is off."""
    written = settings.circuit_settings
    if written is None:
        return None
    return CircuitPolicy(
        interval_seconds=settings.interval,
        open_after=settings.open_after,
        close_after=written.close_after,
        max_wait_seconds=settings.max_wait_seconds,
        max_retry_after_seconds=written.max_retry_after,
        confirm_seconds=settings.confirm_seconds,
    )


def declared(settings: ProbeSettings) -> dict[str, Metric]:
    """The metrics that a reading of such a probe may have, by name; the up series is written by each check."""
    return {metric.name: metric for metric in settings.declared() if metric != settings.up}


def check_job(probe: AnyProbe) -> Job:
    settings = probe.settings
    return Job(
        probe=probe.name,
        name=CHECK,
        timeout_seconds=settings.timeout_seconds,
        work=probe.check,
        translate=probe.translate,
        drop=probe.drop,
        declared=declared(probe.settings),
        retry=retry_policy(settings),
        degraded_after_seconds=settings.degraded_after,
    )


def collector_job(probe: AnyProbe, collector: Collector) -> Job:
    return Job(
        probe=probe.name,
        name=collector.name,
        timeout_seconds=collector.timeout_seconds,
        work=collector.run,
        translate=probe.translate,
        drop=probe.drop,
        declared=declared(probe.settings),
        retry=retry_policy(probe.settings),
    )
