"""From a YAML file or the environment to a checked `Configuration`. Knows no driver and starts nothing.

The way: `load` finds and reads, `document` parses to a tree with places, `expand` puts values in, `check` applies the rules.
"""

from exporter.config.configuration import DEFAULT_PORT, Configuration, Listen, Log, Web
from exporter.config.load import find, load

__all__ = ["DEFAULT_PORT", "Configuration", "Listen", "Log", "Web", "find", "load"]
