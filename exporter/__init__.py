"""Probes the backends of one application and serves what it saw as /health and /metrics."""

__version__ = "0.1.0"
