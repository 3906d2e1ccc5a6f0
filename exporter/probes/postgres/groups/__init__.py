"""The built-in collectors, one row each: their SQL by version and their metrics, as data."""

from exporter.probes.postgres.groups.activity import ACTIVITY
from exporter.probes.postgres.groups.database import DATABASE
from exporter.probes.postgres.groups.locks import LOCKS
from exporter.probes.postgres.groups.replication import REPLICATION
from exporter.probes.postgres.groups.settings import SETTINGS
from exporter.probes.postgres.groups.view import Group

GROUPS: dict[str, Group] = {
    "database": DATABASE,
    "activity": ACTIVITY,
    "locks": LOCKS,
    "replication": REPLICATION,
    "settings": SETTINGS,
}
