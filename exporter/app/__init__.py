"""Where the parts meet: `Exporter` puts them together, `serve` lives with one, `probe_once` asks one a single time."""

from exporter.app.exporter import CannotListen, Exporter
from exporter.app.once import failed, probe_once
from exporter.app.reload import Origin
from exporter.app.serving import serve

__all__ = ["CannotListen", "Exporter", "Origin", "failed", "probe_once", "serve"]
