"""PostgreSQL over asyncpg, which never sees a byte, a name or an address that we have not looked at first.

`connect` gives a `Session`; what goes wrong is a ProbeError, by `translate`. Knows no metric, no probe and no schedule.
"""

from exporter.drivers.postgres.errors import translate
from exporter.drivers.postgres.line import SSLMODES, Endpoint
from exporter.drivers.postgres.session import COMMENT, Answer, Budget, Cell, Login, Session, connect

__all__ = ["COMMENT", "SSLMODES", "Answer", "Budget", "Cell", "Endpoint", "Login", "Session", "connect", "translate"]
