"""The platform's tables, and the role that the exporter looks at them with."""


def seed(role: str, password: str) -> tuple[str, ...]:
    """Statements that make the tables, and a role that may look at them and at the server, no more."""
    return (
        """CREATE TABLE trades (order_id uuid PRIMARY KEY, symbol text NOT NULL, status text NOT NULL, side text NOT NULL,
           profit_usd numeric NOT NULL, executed_at timestamptz NOT NULL DEFAULT now(), settled_at timestamptz)""",
        """CREATE TABLE opportunities (id uuid PRIMARY KEY, symbol text NOT NULL, status text NOT NULL,
           spread_percent numeric NOT NULL, created_at timestamptz NOT NULL DEFAULT now())""",
        f"CREATE ROLE {role} LOGIN PASSWORD '{password}'",
        f"GRANT pg_monitor TO {role}",
        f"GRANT SELECT ON trades, opportunities TO {role}",
    )
