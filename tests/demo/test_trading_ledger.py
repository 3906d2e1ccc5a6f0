"""The platform's ledger, and how the exporter's numbers are held against it."""

import subprocess
import sys
from pathlib import Path

from exporter.demo.audience import Look
from exporter.demo.balance import noted, told
from exporter.demo.trading.ledger import Deed, Ledger

ROOT = Path(__file__).parents[2]

METRICS = """\
# TYPE trades_executed_total counter
trades_executed_total{probe="db",env="demo",symbol="BTCUSDT"} 7
trades_executed_total{probe="db",env="demo",symbol="ETHUSDT"} 0
active_arbitrage_opportunities{probe="db",env="demo"} 1
celery_tasks_total{probe="celery",env="demo",name="trading.settle",state="received",queue_name="celery"} 9
celery_tasks_total{probe="celery",env="demo",name="trading.settle",state="succeeded",queue_name="celery"} 5
celery_tasks_total{probe="celery",env="demo",name="trading.settle",state="succeeded",queue_name="unknown"} 1
"""


def test_deeds_are_counted(tmp_path: Path) -> None:
    """What stands there outlives its writer; before the first deed there is no file."""
    ledger = Ledger(tmp_path / "ledger")
    assert not ledger.sums()
    deed = Deed("trade", "executed", "BTCUSDT", "1")
    ledger.record(deed, Deed("trade", "failed", "BTCUSDT", "2"))
    Ledger(tmp_path / "ledger").record(deed)
    assert ledger.sums() == {("trade", "executed", "BTCUSDT"): 2, ("trade", "failed", "BTCUSDT"): 1}
    assert next(ledger.deeds()) == deed


_WRITER = """
import sys
from pathlib import Path
from exporter.demo.trading.ledger import Deed, Ledger
for number in range(500):
    Ledger(Path(sys.argv[1])).record(Deed("task", "succeeded", "trading.settle", str(number)))
"""


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    """The platform and each process of the worker's pool write to one file."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "ledger")]
    writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [writer.wait(30) for writer in writers] == [0] * 4
    assert Ledger(tmp_path / "ledger").sums() == {("task", "succeeded", "trading.settle"): 2000}


def test_the_exporters_numbers_are_put_in_the_ledgers_words() -> None:
    """Equal means equal for each symbol and each state of a task that the platform itself sees end."""
    sums = {
        ("trade", "executed", "BTCUSDT"): 7,
        ("trade", "failed", "ETHUSDT"): 2,
        ("task", "succeeded", "trading.settle"): 6,
        ("opportunity", "opened", "BTCUSDT"): 4,
        ("opportunity", "closed", "BTCUSDT"): 3,
    }
    expected = {"trades BTCUSDT": 7, "tasks trading.settle succeeded": 6, "opportunities open": 1}
    assert told(Look(metrics=METRICS)) == noted(sums) == expected
    assert told(Look()) != noted(sums)
