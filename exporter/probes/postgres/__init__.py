"""PostgreSQL: `SELECT 1` decides; built-in groups and the user's queries are read beside it."""
