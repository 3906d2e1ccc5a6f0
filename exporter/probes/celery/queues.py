"""The lengths of queues as a reading. Pure."""

from exporter.errors import ProbeError
from exporter.model import Family, Reading
from exporter.probes.celery.broker import Lengths
from exporter.probes.celery.metrics import QUEUE_LENGTH


def reading(lengths: Lengths) -> Reading:
    """What was read.

    Raises:
        ProbeError: the broker refused to tell some lengths; it carries the others.
    """
    read = Reading((Family(QUEUE_LENGTH, tuple(((queue,), length) for queue, length in lengths.by_queue.items())),))
    if lengths.refusal is not None:
        raise ProbeError(lengths.refusal.reason, lengths.refusal.message, reading=read) from lengths.refusal
    return read
