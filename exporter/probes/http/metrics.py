"""The series of an HTTP check, under blackbox_exporter's names."""

from exporter.model import Metric

DECLARED: tuple[Metric, ...] = ()
