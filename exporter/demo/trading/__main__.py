"""The whole platform in one process, run as `python -m exporter.demo.trading`: its HTTP side, and the trade behind it.

TRADING_LISTEN says where the HTTP side listens, as `0.0.0.0:8000`; all else in its environment is what `platform.py` reads.
"""

import os

from exporter.demo.trading import platform
from exporter.demo.trading.service import serving

LISTEN = "127.0.0.1:8000"


def main() -> None:
    host, _, port = os.environ.get("TRADING_LISTEN", LISTEN).rpartition(":")
    with serving(host, int(port)):
        platform.main()


if __name__ == "__main__":
    main()
