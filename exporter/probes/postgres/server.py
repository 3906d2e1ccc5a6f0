"""Who the server is and what it lets us see: asked anew on every new connection, since both can change behind a name.

Pure: gives the question and reads the answer. Knows no driver.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.probes.postgres.values import Cell

# pg_read_all_stats exists since PostgreSQL 10, and pg_monitor is a member of it; superusers have every role
MONITORS = "coalesce((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_read_all_stats'), false)"

FACTS = (
    "SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),"
    f" current_database(), current_user, {MONITORS}"
)


@dataclass(frozen=True, slots=True)
class Server:
    """Facts of one connection. `version` is server_version_num: 150018 is 15.18.

    `monitors` says whether our role may see what sessions of others do (pg_read_all_stats, by itself or through pg_monitor).
    """

    version: int
    version_text: str
    is_standby: bool
    database: str
    role: str
    monitors: bool

    @property
    def quoted_role(self) -> str:
        """The role as SQL takes it."""
        return '"' + self.role.replace('"', '""') + '"'


def server_of(row: Sequence[Cell]) -> Server:
    """The facts in the one row that `FACTS` returns."""
    version, text, is_standby, database, role, monitors = row
    # `15.18 (Debian 15.18-0+deb12u1)`: what a packager adds is left out
    return Server(int(version or 0), str(text).partition(" ")[0], bool(is_standby), str(database), str(role), bool(monitors))
