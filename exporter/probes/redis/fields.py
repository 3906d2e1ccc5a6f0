"""Which fields of INFO become which metrics: a table, under the names of redis_exporter (1.78). Pure; parses nothing.

Fields: https://redis.io/docs/latest/commands/info/. A server that lacks one, as an older version does, lacks its series.
"""

from dataclasses import dataclass

from exporter.model import Kind, Metric


@dataclass(frozen=True, slots=True)
class Field:
    """A field of INFO and its metric. The value is divided by `unit`; `is_signed` says that below zero it is a number too,
    where everywhere else it means that there is none."""

    name: str
    metric: Metric
    unit: int = 1
    is_signed: bool = False


def _gauge(name: str, metric: str, help_text: str, *, unit: int = 1, is_signed: bool = False) -> Field:
    return Field(name, Metric(f"redis_{metric}", Kind.GAUGE, f"{help_text}, from INFO {name}."), unit, is_signed)


def _counter(name: str, metric: str, help_text: str, *, unit: int = 1) -> Field:
    return Field(name, Metric(f"redis_{metric}", Kind.COUNTER, f"{help_text}, from INFO {name}."), unit)


_SERVER = (
    _gauge("uptime_in_seconds", "uptime_in_seconds", "Seconds since the server started"),
    _gauge("io_threads_active", "io_threads_active", "Whether I/O threads are at work: 1 or 0"),
)

_CLIENTS = (
    _gauge("connected_clients", "connected_clients", "Client connections, the exporter's included, replicas' not"),
    _gauge("blocked_clients", "blocked_clients", "Clients waiting in a blocking command such as BLPOP"),
    _gauge("tracking_clients", "tracking_clients", "Clients that have their keys tracked"),
    _gauge("clients_in_timeout_table", "clients_in_timeout_table", "Clients that wait with a timeout"),
    _gauge("pubsub_clients", "pubsub_clients", "Clients in subscribed mode"),
    _gauge("watching_clients", "watching_clients", "Clients in WATCH"),
    _gauge("maxclients", "max_clients", "The most connections the server accepts"),
    _gauge("cluster_connections", "cluster_connections", "Sockets of the cluster's bus"),
    _gauge(
        "client_recent_max_input_buffer",
        "client_recent_max_input_buffer_bytes",
        "Bytes of the largest input buffer among recent clients",
    ),
    _gauge(
        "client_recent_max_output_buffer",
        "client_recent_max_output_buffer_bytes",
        "Bytes of the largest output buffer among recent clients",
    ),
)

_MEMORY = (
    _gauge("used_memory", "memory_used_bytes", "Bytes that the allocator has handed out"),
    _gauge("used_memory_rss", "memory_used_rss_bytes", "Bytes resident, as the operating system sees the process"),
    _gauge("used_memory_peak", "memory_used_peak_bytes", "The most bytes that were ever handed out"),
    _gauge("used_memory_overhead", "memory_used_overhead_bytes", "Bytes of what the server needs for itself"),
    _gauge("used_memory_startup", "memory_used_startup_bytes", "Bytes handed out at start"),
    _gauge("used_memory_dataset", "memory_used_dataset_bytes", "Bytes of the data: used without overhead"),
    _gauge("used_memory_lua", "memory_used_lua_bytes", "Bytes of the Lua engine"),
    _gauge("used_memory_scripts", "memory_used_scripts_bytes", "Bytes of cached scripts and functions"),
    _gauge("number_of_cached_scripts", "number_of_cached_scripts", "EVAL scripts that are cached"),
    _gauge("maxmemory", "memory_max_bytes", "The maxmemory setting in bytes, 0 for none"),
    _gauge("mem_fragmentation_ratio", "mem_fragmentation_ratio", "Resident over used bytes, a ratio"),
    _gauge(
        "mem_fragmentation_ratio",
        "memory_fragmentation_ratio",
        "Resident over used bytes, a ratio, under the name of old dashboards",
    ),
    _gauge("mem_fragmentation_bytes", "mem_fragmentation_bytes", "Resident less used bytes", is_signed=True),
    _gauge("mem_clients_normal", "mem_clients_normal", "Bytes of ordinary clients' buffers"),
    _gauge("mem_clients_slaves", "mem_clients_slaves", "Bytes of replicas' buffers"),
    _gauge("mem_cluster_links", "mem_cluster_links_bytes", "Bytes of the cluster bus' buffers"),
    _gauge("mem_aof_buffer", "mem_aof_buffer_bytes", "Bytes of the append-only file's buffers"),
    _gauge("mem_replication_backlog", "mem_replication_backlog_bytes", "Bytes of the replication backlog"),
    _gauge(
        "mem_not_counted_for_evict",
        "mem_not_counted_for_eviction_bytes",
        "Bytes used that do not count towards maxmemory",
    ),
    _gauge("allocator_active", "allocator_active_bytes", "Bytes of the allocator's active pages"),
    _gauge("allocator_allocated", "allocator_allocated_bytes", "Bytes handed out, internal fragmentation included"),
    _gauge("allocator_resident", "allocator_resident_bytes", "Bytes resident in the allocator"),
    _gauge("allocator_frag_ratio", "allocator_frag_ratio", "Active over allocated bytes, a ratio"),
    _gauge("allocator_frag_bytes", "allocator_frag_bytes", "Active less allocated bytes", is_signed=True),
    _gauge("allocator_rss_ratio", "allocator_rss_ratio", "Resident over active bytes, a ratio"),
    _gauge("allocator_rss_bytes", "allocator_rss_bytes", "Resident less active bytes", is_signed=True),
    _gauge(
        "active_defrag_running", "active_defrag_running", "Whether memory is being defragmented: 0, or the CPU share in percent"
    ),
    _gauge("lazyfree_pending_objects", "lazyfree_pending_objects", "Objects waiting to be freed in the background"),
)

_PERSISTENCE = (
    _gauge("loading", "loading_dump_file", "Whether a dump file is being loaded: 1 or 0"),
    _gauge("async_loading", "async_loading", "Whether a replica loads while it serves old data: 1 or 0"),
    _gauge("rdb_changes_since_last_save", "rdb_changes_since_last_save", "Changes since the last dump"),
    _gauge("rdb_bgsave_in_progress", "rdb_bgsave_in_progress", "Whether a dump is being written: 1 or 0"),
    _gauge("rdb_last_save_time", "rdb_last_save_timestamp_seconds", "Unix time in seconds of the last good dump, or of the start"),
    _gauge("rdb_last_bgsave_status", "rdb_last_bgsave_status", "Whether the last dump went well: 1 or 0"),
    _gauge("rdb_last_bgsave_time_sec", "rdb_last_bgsave_duration_sec", "Seconds the last dump took; absent before the first"),
    _gauge(
        "rdb_current_bgsave_time_sec",
        "rdb_current_bgsave_duration_sec",
        "Seconds the dump has taken that is being written; absent when none is",
    ),
    _counter("rdb_saves", "rdb_saves_total", "Dumps since start"),
    _gauge("rdb_last_cow_size", "rdb_last_cow_size_bytes", "Bytes copied on write during the last dump"),
    _gauge("aof_enabled", "aof_enabled", "Whether the append-only file is on: 1 or 0"),
    _gauge("aof_rewrite_in_progress", "aof_rewrite_in_progress", "Whether the append-only file is being rewritten: 1 or 0"),
    _gauge("aof_rewrite_scheduled", "aof_rewrite_scheduled", "Whether a rewrite waits for a dump to end: 1 or 0"),
    _gauge("aof_last_rewrite_time_sec", "aof_last_rewrite_duration_sec", "Seconds the last rewrite took; absent before the first"),
    _gauge(
        "aof_current_rewrite_time_sec",
        "aof_current_rewrite_duration_sec",
        "Seconds the rewrite has taken that is under way; absent when none is",
    ),
    _gauge("aof_last_bgrewrite_status", "aof_last_bgrewrite_status", "Whether the last rewrite went well: 1 or 0"),
    _gauge("aof_last_write_status", "aof_last_write_status", "Whether the last write to the append-only file went well: 1 or 0"),
    _gauge("aof_last_cow_size", "aof_last_cow_size_bytes", "Bytes copied on write during the last rewrite"),
    _gauge("aof_current_size", "aof_current_size_bytes", "Bytes of the append-only file; absent when it is off"),
    _gauge("aof_base_size", "aof_base_size_bytes", "Bytes of the append-only file after the last start or rewrite"),
    _gauge("aof_pending_rewrite", "aof_pending_rewrite", "Whether a rewrite waits for a dump to end: 1 or 0"),
    _gauge("aof_buffer_length", "aof_buffer_length", "Bytes of the append-only file's buffer"),
    _gauge("aof_pending_bio_fsync", "aof_pending_bio_fsync", "Calls of fsync that wait in the background"),
    _gauge("aof_delayed_fsync", "aof_delayed_fsync", "Calls of fsync that were delayed"),
)

_STATS = (
    _counter("total_connections_received", "connections_received_total", "Connections accepted"),
    _counter("rejected_connections", "rejected_connections_total", "Connections refused because of maxclients"),
    _counter("total_commands_processed", "commands_processed_total", "Commands executed, the exporter's included"),
    _gauge("instantaneous_ops_per_sec", "instantaneous_ops_per_sec", "Commands a second just now, by the server's own sampling"),
    _counter("total_net_input_bytes", "net_input_bytes_total", "Bytes read from clients"),
    _counter("total_net_output_bytes", "net_output_bytes_total", "Bytes written to clients"),
    _counter("expired_keys", "expired_keys_total", "Keys that expired"),
    _counter(
        "expired_time_cap_reached_count",
        "expired_time_cap_reached_total",
        "Times that the search for expired keys ran out of time",
    ),
    _gauge("expired_stale_perc", "expired_stale_percentage", "Share of keys that are past their time, in percent, estimated"),
    _counter("evicted_keys", "evicted_keys_total", "Keys evicted because of maxmemory"),
    _counter("evicted_clients", "evicted_clients_total", "Clients closed because of maxmemory-clients"),
    _counter("keyspace_hits", "keyspace_hits_total", "Lookups of keys that were there"),
    _counter("keyspace_misses", "keyspace_misses_total", "Lookups of keys that were not there"),
    _gauge("pubsub_channels", "pubsub_channels", "Channels with subscribers"),
    _gauge("pubsub_patterns", "pubsub_patterns", "Patterns with subscribers"),
    _gauge("latest_fork_usec", "latest_fork_usec", "Microseconds the last fork took"),
    _gauge("latest_fork_usec", "latest_fork_seconds", "Seconds the last fork took", unit=1_000_000),
    _counter("unexpected_error_replies", "unexpected_error_replies", "Error replies to a master or a replica"),
    _counter("total_error_replies", "total_error_replies", "Error replies"),
    _counter("total_reads_processed", "total_reads_processed", "Reads from clients"),
    _counter("total_writes_processed", "total_writes_processed", "Writes to clients"),
)

_REPLICATION = (
    _gauge("connected_slaves", "connected_slaves", "Replicas connected"),
    _gauge("master_repl_offset", "master_repl_offset", "Offset of the replication stream in bytes"),
    _gauge("second_repl_offset", "second_repl_offset", "Offset up to which the former master's stream is accepted; absent without"),
    _gauge("repl_backlog_active", "repl_backlog_is_active", "Whether there is a replication backlog: 1 or 0"),
    _gauge("repl_backlog_size", "replication_backlog_bytes", "The repl-backlog-size setting in bytes"),
    _gauge("repl_backlog_first_byte_offset", "repl_backlog_first_byte_offset", "Offset of the backlog's first byte"),
    _gauge("repl_backlog_histlen", "repl_backlog_history_bytes", "Bytes in the backlog"),
    _gauge("slave_priority", "slave_priority", "Priority as a candidate for master"),
    _gauge("slave_expires_tracked_keys", "slave_expires_tracked_keys", "Keys whose expiry a writable replica tracks"),
    _gauge("sync_full", "replica_resyncs_full", "Full resynchronisations with replicas since start"),
    _gauge("sync_partial_ok", "replica_partial_resync_accepted", "Partial resynchronisations accepted since start"),
    _gauge("sync_partial_err", "replica_partial_resync_denied", "Partial resynchronisations denied since start"),
)

_CPU = (
    _counter("used_cpu_sys", "cpu_sys_seconds_total", "Seconds of system CPU"),
    _counter("used_cpu_user", "cpu_user_seconds_total", "Seconds of user CPU"),
    _counter("used_cpu_sys_children", "cpu_sys_children_seconds_total", "Seconds of system CPU of children, such as dumps"),
    _counter("used_cpu_user_children", "cpu_user_children_seconds_total", "Seconds of user CPU of children, such as dumps"),
    _counter("used_cpu_sys_main_thread", "cpu_sys_main_thread_seconds_total", "Seconds of system CPU of the main thread"),
    _counter("used_cpu_user_main_thread", "cpu_user_main_thread_seconds_total", "Seconds of user CPU of the main thread"),
)

_CLUSTER = (_gauge("cluster_enabled", "cluster_enabled", "Whether the server is a cluster's node: 1 or 0"),)

FIELDS = (*_SERVER, *_CLIENTS, *_MEMORY, *_PERSISTENCE, *_STATS, *_REPLICATION, *_CPU, *_CLUSTER)

# What a replica says of its master; redis_exporter's labels.
_MASTER = ("master_host", "master_port")

MASTER_FIELDS = (
    Field(
        "master_link_status",
        Metric(
            "redis_master_link_up", Kind.GAUGE, "Whether a replica's link is up: 1 or 0, from INFO master_link_status.", _MASTER
        ),
    ),
    Field(
        "master_last_io_seconds_ago",
        Metric(
            "redis_master_last_io_seconds_ago",
            Kind.GAUGE,
            "Seconds since a replica heard of its master, from INFO master_last_io_seconds_ago; absent while the link is down.",
            _MASTER,
        ),
    ),
    Field(
        "master_sync_in_progress",
        Metric(
            "redis_master_sync_in_progress",
            Kind.GAUGE,
            "Whether a replica is being synchronised: 1 or 0, from INFO master_sync_in_progress.",
            _MASTER,
        ),
    ),
    Field(
        "slave_repl_offset",
        Metric("redis_slave_repl_offset", Kind.GAUGE, "A replica's offset in bytes, from INFO slave_repl_offset.", _MASTER),
    ),
)
