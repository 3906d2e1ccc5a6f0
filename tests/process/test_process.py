"""The exporter from outside: a child process, real servers, real faults, asked over HTTP."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from tests.faults import hanging_names
from tests.running import Running
from tests.servers import closed_port, eventually_now, execute, find_promtool, open_fds

from exporter.demo.servers import Postgres

CANARY = "c4nary-pa55w0rd"

PRIVATE = Callable[..., Awaitable[Postgres]]

ROOT = Path(__file__).parent.parent.parent
