-- A login for sidecar-exporter that may look at one database and at the server's statistics, and no more. The README, Rights, says
-- what is lost without each line. In the database that the exporter connects to, as its owner or a superuser, at any time again:
--
--     SIDECAR_PASSWORD=… psql -d app -v tables='trades, opportunities' -f postgres.sql
--
-- `tables` are those that queries of yours read. `-v password=…` works too, but shows in the list of processes; without either no
-- password is set or changed.

\set ON_ERROR_STOP on
SET client_min_messages = warning; -- or a second run would say of each grant that it is there
BEGIN;

SELECT 'CREATE ROLE exporter' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'exporter') \gexec

-- Twice the pool's three, so that `exporter probe`, or the next process, can come while the last one is still there.
ALTER ROLE exporter LOGIN CONNECTION LIMIT 6;

GRANT CONNECT ON DATABASE :"DBNAME" TO exporter;

-- The one part of pg_monitor that is needed: sessions of others, and databases that it may not connect to.
GRANT pg_read_all_stats TO exporter;

\if :{?tables}
    GRANT SELECT ON :tables TO exporter;
\endif

-- The exporter sets stricter ones for each transaction of its collectors; these hold for whoever else comes with its login.
ALTER ROLE exporter SET default_transaction_read_only = on;
ALTER ROLE exporter SET statement_timeout = '30s';
-- A connection whose other end vanished without a word is given up after 30 + 3 × 10 s, instead of two hours.
ALTER ROLE exporter SET tcp_keepalives_idle = '30s';
ALTER ROLE exporter SET tcp_keepalives_interval = '10s';
ALTER ROLE exporter SET tcp_keepalives_count = 3;

-- By way of a setting: pg_stat_statements, and log_statement = ddl, would keep the text of an ALTER ROLE … PASSWORD.
\if :{?password}
\else
    \set password `printf %s "$SIDECAR_PASSWORD"`
\endif
SELECT set_config('sidecar.password', :'password', true) <> '' AS has_password \gset
\if :has_password
    DO $$ BEGIN EXECUTE format('ALTER ROLE exporter PASSWORD %L', current_setting('sidecar.password')); END $$;
\endif

COMMIT;
