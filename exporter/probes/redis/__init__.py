"""Redis and Valkey: PING decides; `INFO` under the names of redis_exporter."""
