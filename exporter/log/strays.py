"""What Python would print past every handler: exceptions of threads and of finalisers, with their text, and warnings.

Each becomes a log line, so that it passes the redaction and has the form of all others.
"""

import logging
import sys
import threading

_log = logging.getLogger(__name__)


def catch_strays() -> None:
    """From now on, for the whole process."""
    threading.excepthook = _thread_ended
    sys.unraisablehook = _unraisable
    logging.captureWarnings(capture=True)


def _thread_ended(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        name = arguments.thread.name if arguments.thread else "of a name unknown"
        raised = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
        _log.error("thread %s ended unexpectedly; please report it", name, exc_info=raised)


def _unraisable(arguments: "sys.UnraisableHookArgs") -> None:
    if arguments.exc_value is not None:
        raised = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
        _log.error("raised where nobody could catch it; please report it", exc_info=raised)
