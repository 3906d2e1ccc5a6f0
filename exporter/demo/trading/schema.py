"""The platform's tables, and the role that the demo's exporter looks at them with."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS trades (order_id uuid PRIMARY KEY, symbol text NOT NULL, status text NOT NULL, side text NOT NULL,
       profit_usd numeric NOT NULL, executed_at timestamptz NOT NULL DEFAULT now(), settled_at timestamptz)""",
    """CREATE TABLE IF NOT EXISTS opportunities (id uuid PRIMARY KEY, symbol text NOT NULL, status text NOT NULL,
       spread_percent numeric NOT NULL, created_at timestamptz NOT NULL DEFAULT now())""",
)
"""Statements that make what is missing of them. Two sessions may not do so at once (PostgreSQL: the second finds a duplicate)."""


def seed(role: str, password: str) -> tuple[str, ...]:
    """Statements that make the tables, and a role that may look at them and at the server, no more."""
    return (
        *TABLES,
        f"CREATE ROLE {role} LOGIN PASSWORD '{password}'",
        f"GRANT pg_read_all_stats TO {role}",
        f"GRANT SELECT ON trades, opportunities TO {role}",
    )
