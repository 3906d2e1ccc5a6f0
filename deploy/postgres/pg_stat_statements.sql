-- Run once, in the application's database, when the volume is new. The library itself is loaded by shared_preload_libraries.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
