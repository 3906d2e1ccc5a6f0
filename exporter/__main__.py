"""`python -m exporter`, and what the commands `exporter` and `sidecar-exporter` call.

Sends `healthcheck` to its standard-library file before click, or anything else that is heavy, is imported.
"""

import sys

from exporter import healthcheck


def main() -> None:
    """Runs the command line of this process and exits with its code."""
    if healthcheck.is_asked_for(sys.argv[1:]):
        sys.exit(healthcheck.main(sys.argv[1:]))
    from exporter.cli import main as command_line  # noqa: PLC0415 - not before it is known to be needed

    command_line()


if __name__ == "__main__":
    main()
