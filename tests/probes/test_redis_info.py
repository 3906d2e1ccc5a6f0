"""INFO's text: what is read of it, what is absent, and that nothing in it can be in the way."""

import shutil
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Family, Kind, Value
from exporter.probes.redis.info import METRICS, Info

NOW = 1_700_000_000.9

REPLICA = """# Replication\r
role:slave\r
master_host:10.0.0.1\r
master_port:6379\r
master_link_status:down\r
master_last_io_seconds_ago:-1\r
master_sync_in_progress:1\r
slave_repl_offset:140\r
slave_priority:100\r
slave_read_only:1\r
connected_slaves:0\r
second_repl_offset:-1\r
"""

MASTER = """# Replication\r
role:master\r
connected_slaves:3\r
slave0:ip=10.0.0.2,port=6379,state=online,offset=140,lag=1\r
slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0,type=replica\r
slave2:ip=10.0.0.2,port=6379,state=online,offset=99,lag=9\r
"""

SERVER = """# Server\r
redis_version:7.2.4\r
server_name:valkey\r
valkey_version:8.1.0\r
server_mode:standalone\r
os:Linux 6.1 x86_64\r
server_time_usec:1700000123456789\r
uptime_in_seconds:100\r
role:master\r
maxmemory_policy:noeviction\r
executable:/usr/bin/redis-server\r
config_file:\r
mem_fragmentation_bytes:-512\r
mem_fragmentation_ratio:nan\r
rdb_last_bgsave_status:err\r
rdb_last_bgsave_time_sec:-1\r
used_memory:18446744073709551615\r
latest_fork_usec:250\r
"""

STATS = """# Commandstats\r
cmdstat_get:calls=21,usec=175,usec_per_call=8.33,rejected_calls=1,failed_calls=2\r
cmdstat_client|list:calls=1,usec=1000000,usec_per_call=1000000.00\r
# Errorstats\r
errorstat_WRONGTYPE:count=4\r
# Keyspace\r
db0:keys=10,expires=4,avg_ttl=90500,subexpiry=0\r
db12:keys=1,expires=0,avg_ttl=0\r
"""


def read(text: str, db: int = 0) -> dict[str, dict[tuple[str, ...], Value]]:
    return {family.metric.name: dict(family.rows) for family in Info.of(text).families(NOW, db) if family.rows}


def test_a_replica_says_whose_it_is_and_that_it_is_cut_off() -> None:
    """redis_exporter's labels; a time that there is none of is absent, not minus one."""
    found = read(REPLICA)
    labels = ("10.0.0.1", "6379")
    assert {name: rows for name, rows in found.items() if labels in rows} == {
        "redis_master_link_up": {labels: 0},
        "redis_master_sync_in_progress": {labels: 1},
        "redis_slave_repl_offset": {labels: 140},
    }
    assert found["redis_slave_info"] == {(*labels, "1"): 1}
    assert found["redis_slave_priority"] == {(): 100}
    assert "redis_second_repl_offset" not in found
    assert Info.of(REPLICA).role == "replica"


def test_a_master_lists_its_replicas() -> None:
    """Two that share an address and a state must not become one series twice."""
    found = read(MASTER)
    online, waiting = ("10.0.0.2", "6379", "online"), ("10.0.0.3", "6379", "wait_bgsave")
    assert found["redis_connected_slave_offset_bytes"] == {online: 140, waiting: 0}
    assert found["redis_connected_slave_lag_seconds"] == {online: 1, waiting: 0}
    assert found["redis_connected_slaves"] == {(): 3}
    assert "redis_master_link_up" not in found


def test_numbers_are_exact_and_what_is_none_is_absent() -> None:
    """Below zero is a number only where it can be one."""
    found = read(SERVER)
    assert found["redis_memory_used_bytes"] == {(): 18446744073709551615}
    assert found["redis_mem_fragmentation_bytes"] == {(): -512}
    assert found["redis_rdb_last_bgsave_status"] == {(): 0}
    assert found["redis_latest_fork_seconds"] == {(): 0.00025}
    assert not {"redis_rdb_last_bgsave_duration_sec", "redis_mem_fragmentation_ratio", "redis_blocked_clients"} & found.keys()


def test_valkey_is_read_as_redis() -> None:
    """It calls the mode by another name."""
    assert read(SERVER)["redis_instance_info"] == {("master", "7.2.4", "standalone", "Linux 6.1 x86_64", "noeviction"): 1}


def test_the_start_is_told_by_the_servers_own_clock() -> None:
    """Ours serves where an old server does not tell its own."""
    assert read(SERVER)["redis_start_time_seconds"] == {(): 1_700_000_023}
    assert read("uptime_in_seconds:100\n")["redis_start_time_seconds"] == {(): 1_699_999_900}


def test_commands_errors_and_databases_have_their_labels() -> None:
    """Old servers tell no failed calls; an average of nothing is absent."""
    found = read(STATS)
    assert found["redis_commands_total"] == {("get",): 21, ("client|list",): 1}
    assert found["redis_commands_duration_seconds_total"] == {("get",): 0.000175, ("client|list",): 1.0}
    assert found["redis_commands_failed_calls_total"] == {("get",): 2}
    assert found["redis_commands_rejected_calls_total"] == {("get",): 1}
    assert found["redis_errors_total"] == {("WRONGTYPE",): 4}
    assert found["redis_db_keys"] == {("db0",): 10, ("db12",): 1}
    assert found["redis_db_keys_expiring"] == {("db0",): 4, ("db12",): 0}
    assert found["redis_db_avg_ttl_seconds"] == {("db0",): 90.5}


def test_the_database_we_are_in_is_told_while_it_is_empty() -> None:
    """INFO leaves empty databases out, and an alert on zero keys would never fire."""
    assert read(SERVER, db=3)["redis_db_keys"] == {("db3",): 0}
    assert read(SERVER + STATS, db=0)["redis_db_keys"] == {("db0",): 10, ("db12",): 1}
    assert "redis_db_keys" not in read("uptime_in_seconds:1\r\n")


def test_an_empty_answer_gives_nothing() -> None:
    """Absent, never 0."""
    assert read("") == {}


@given(st.text() | st.lists(st.sampled_from((REPLICA + MASTER + SERVER + STATS).splitlines())).map("\n".join))
def test_no_text_breaks_the_reading(text: str) -> None:
    """The server may be anything that calls itself Redis; no two rows of a family share their labels."""
    families = Info.of(text).families(NOW, 0)
    assert len({family.metric.name for family in families}) == len(families)
    for family in families:
        assert len(dict(family.rows)) == len(family.rows)
        assert all(len(labels) == len(family.metric.labels) for labels, _ in family.rows)


def test_every_family_that_is_read_is_declared() -> None:
    """What is not declared clashes with a name of the user's unseen."""
    families: tuple[Family, ...] = Info.of(REPLICA + MASTER + SERVER + STATS).families(NOW, 0)
    assert {family.metric for family in families} <= set(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


COMPLAINTS = {
    "redis_aof_current_rewrite_duration_sec",
    "redis_aof_last_rewrite_duration_sec",
    "redis_instantaneous_ops_per_sec",
    "redis_rdb_current_bgsave_duration_sec",
    "redis_rdb_last_bgsave_duration_sec",
    "redis_total_error_replies",
    "redis_total_reads_processed",
    "redis_total_writes_processed",
    "redis_unexpected_error_replies",
}
"""Names that redis_exporter gave, and people query."""


def test_promtool_complains_of_peers_names_alone() -> None:
    """A name of our own making would be a mistake of ours."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing; as root: apt-get install -y --no-install-recommends prometheus"
    text = "".join(f"# HELP {m.name} {m.help}\n# TYPE {m.name} {m.kind}\n{m.name}{_labels(m.labels)} 1\n" for m in METRICS)
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    assert {line.partition(" ")[0] for line in (result.stdout + result.stderr).splitlines()} == COMPLAINTS
    assert all(metric.kind is Kind.COUNTER for metric in METRICS if metric.name.endswith("_total"))


def _labels(names: tuple[str, ...]) -> str:
    return "{" + ",".join(f'{name}="x"' for name in names) + "}" if names else ""
