"""The exporters that ours is compared with, as Debian packages them, each a private process on loopback."""

import shutil
from collections.abc import Mapping

from benchmarks.common.backends import Backends
from benchmarks.common.processes import Child
from exporter.demo.servers import HOST, MissingServer, Server, is_listening
from exporter.demo.servers.python import python

Asked = tuple[int, str]
"""Port and path of a scrape."""

APT = "apt-get install --no-install-recommends"


class Peer(Server):
    """A program of a Debian package; raises MissingServer where it is not installed. `path` is what a scrape asks for."""

    program = ""
    package = ""
    path = "/metrics"

    def __init__(self) -> None:
        found = shutil.which(self.program)
        if found is None:
            raise MissingServer(f"{self.program} is missing: `{APT} {self.package}`")
        super().__init__()
        self.binary = found

    def is_ready(self) -> bool:
        return is_listening(self.port)


class PostgresExporter(Peer):
    """As installed: all collectors it has by default, every database."""

    name = "postgres_exporter"
    program = package = "prometheus-postgres-exporter"

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def command(self) -> list[str]:
        return [self.binary, f"--web.listen-address={HOST}:{self.port}", "--log.level=error", "--auto-discover-databases"]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"DATA_SOURCE_NAME": f"{self._url}?sslmode=disable"}


class RedisExporter(Peer):
    """As installed."""

    name = "redis_exporter"
    program = package = "prometheus-redis-exporter"

    def __init__(self, port: int, password: str) -> None:
        super().__init__()
        self._target = {"REDIS_ADDR": f"redis://{HOST}:{port}", "REDIS_PASSWORD": password}

    def command(self) -> list[str]:
        return [self.binary, f"-web.listen-address={HOST}:{self.port}"]

    def environment(self) -> dict[str, str]:
        return super().environment() | self._target


class Blackbox(Peer):
    """One HTTP probe at each scrape; `tcp_path` asks whether a port accepts a connection."""

    name = "blackbox_exporter"
    program = package = "prometheus-blackbox-exporter"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.path = f"/probe?module=http_2xx&target={url}"
        modules = "modules:\n  http_2xx: {prober: http, timeout: 5s}\n  tcp_connect: {prober: tcp, timeout: 5s}\n"
        self._modules = self.write(self.folder / "blackbox.yml", modules.encode())

    def command(self) -> list[str]:
        return [self.binary, f"--config.file={self._modules}", f"--web.listen-address={HOST}:{self.port}", "--log.level=error"]

    def tcp_path(self, port: int) -> str:
        return f"/probe?module=tcp_connect&target={HOST}:{port}"


class CeleryPoller(Child):
    """See `celery_poller.py`."""

    name = "celery poller"
    path = "/metrics"

    def __init__(self, broker_url: str) -> None:
        super().__init__()
        self._broker_url = broker_url

    def command(self) -> list[str]:
        return python("benchmarks.common.celery_poller", str(self.port), "celery", self._broker_url)

    def is_ready(self) -> bool:
        return is_listening(self.port)  # an answer takes two seconds


class Aggregator(Child):
    """See `aggregator.py`."""

    name = "aggregator"

    def __init__(self, urls: Mapping[str, str]) -> None:
        super().__init__()
        self._urls = urls

    def command(self) -> list[str]:
        return python("benchmarks.common.aggregator", str(self.port), *(f"{name}={url}" for name, url in self._urls.items()))


class Collectd(Peer):
    """PostgreSQL, Redis and the HTTP service, by its own plugins; it has none for RabbitMQ's queues or for Celery."""

    name = program = "collectd"
    package = "collectd-core libpq5 libhiredis0.14 libcurl3-gnutls libmicrohttpd12 libprotobuf-c1"

    def __init__(self, backends: Backends, interval_seconds: float) -> None:
        super().__init__()
        text = _COLLECTD.format(
            host=HOST, port=self.port, folder=self.folder, interval=interval_seconds,
            postgres=backends.postgres, redis=backends.redis, app=backends.app,
        )  # fmt: skip
        self._configuration = self.write(self.folder / "collectd.conf", text.encode())

    def command(self) -> list[str]:
        return [self.binary, "-f", "-C", str(self._configuration)]


_COLLECTD = """
Interval {interval}
BaseDir "{folder}"
PIDFile "{folder}/pid"
TypesDB "/usr/share/collectd/types.db"
LoadPlugin postgresql
LoadPlugin redis
LoadPlugin curl
LoadPlugin write_prometheus
<Plugin postgresql>
  <Database postgres>
    Host "{host}"
    Port "{postgres.port}"
    User "{postgres.user}"
    Password "{postgres.password}"
    SSLMode "disable"
  </Database>
</Plugin>
<Plugin redis>
  <Node local>
    Host "{host}"
    Port "{redis.port}"
    Password "{redis.password}"
    Timeout 2000
  </Node>
</Plugin>
<Plugin curl>
  <Page app>
    URL "http://{host}:{app.port}/health"
    MeasureResponseTime true
    MeasureResponseCode true
  </Page>
</Plugin>
<Plugin write_prometheus>
  Host "{host}"
  Port "{port}"
</Plugin>
"""
