"""The HTTP probe: one request, redirects followed, decides. Keeps no connection."""

from dataclasses import replace
from time import monotonic, time

from exporter.drivers import http
from exporter.drivers.http import Answer, Client, Hop, Request
from exporter.drivers.kept import Lease
from exporter.drivers.tls import Tls
from exporter.errors import AssertionFailed, ProbeError
from exporter.model import CHECK, Reading, Reason
from exporter.probes.base import Probe, Runtime
from exporter.probes.http.body import compiled, read_body
from exporter.probes.http.expect import body_fault, is_expected, retry_after_seconds
from exporter.probes.http.phases import Measured, reading
from exporter.probes.http.settings import HttpSettings

_RATE_LIMITS = frozenset({429, 418})
"""Too Many Requests; and what Binance answers to an address it has banned for going on after a 429."""


class HttpProbe(Probe[HttpSettings]):
    """Asks the configured URL and judges the last answer."""

    def __init__(self, name: str, settings: HttpSettings, runtime: Runtime) -> None:
        super().__init__(name, settings, runtime)
        self._client = Client(runtime.resolver, _tls(settings))
        self._request = Request(
            url=settings.address,
            method=settings.method,
            headers=settings.headers,
            authorization=settings.authorization,
            body=settings.body,
            follow_redirects=settings.follow_redirects,
        )
        self._wanted = compiled(settings.body_regex) if settings.body_regex is not None else None
        self._unwanted = compiled(settings.not_body_regex) if settings.not_body_regex is not None else None
        self._lease = Lease(CHECK)

    async def check(self) -> Reading:
        """What the last answer tells; degraded by rate_limited for 429 and 418, unless they are expected.

        Raises:
            ProbeError: no answer; or http_status, the status is not expected; or auth, it is 401 although we sent credentials.
            AssertionFailed: the body is not as the regexes want it.
        """
        lease = self._lease = Lease(CHECK)
        trail: list[Hop] = []
        started = monotonic()
        try:
            answer = await self._client.fetch(self._request, trail, lease)
        except ProbeError as error:
            error.reading = reading(Measured(trail, monotonic() - started))
            raise
        finally:
            lease.drop()
        return self._judged(answer, Measured(trail, monotonic() - started, answer))

    def _judged(self, answer: Answer, measured: Measured) -> Reading:
        body = read_body(answer)
        measured = replace(measured, body=body)
        if not is_expected(answer.status, self.settings.expect_status):
            if answer.status in _RATE_LIMITS:
                return _rate_limited(answer, reading(measured))
            raise self._unexpected(answer, reading(measured))
        fault = body_fault(answer, body, self._wanted, self._unwanted)
        if fault is not None:
            raise AssertionFailed(fault, reading=reading(replace(measured, regex_failed=True)))
        return reading(measured)

    def _unexpected(self, answer: Answer, found: Reading) -> ProbeError:
        message = f"{answer.where}: {answer.phrase}"
        if answer.status == 401 and answer.authorized:  # as for every backend: secrets in files are then read again
            return ProbeError(Reason.AUTH, f"{message}, our credentials were refused", reading=found)
        if answer.status < 400:
            message += f", expected {' or '.join(self.settings.expect_status)}"
        return ProbeError(Reason.HTTP_STATUS, message, reading=found, retryable=answer.status >= 500)

    def drop(self, collector: str) -> None:
        self._lease.drop()

    async def aclose(self) -> None:
        self._lease.drop()

    @staticmethod
    def translate(error: Exception) -> ProbeError | None:
        return http.translate(error)


def _rate_limited(answer: Answer, found: Reading) -> Reading:
    wait = retry_after_seconds(answer.retry_after, time())
    message = f"{answer.status}, {f'Retry-After {wait:.0f}s' if wait is not None else 'no Retry-After'}"
    return replace(found, degraded=Reason.RATE_LIMITED, message=message, retry_after_seconds=wait)


def _tls(settings: HttpSettings) -> Tls:
    return Tls() if settings.tls is None else Tls(**settings.tls.model_dump())
