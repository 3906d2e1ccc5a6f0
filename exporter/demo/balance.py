"""Holds the exporter's numbers against the platform's ledger. Pure."""

import re
from collections import Counter
from collections.abc import Mapping

from exporter.demo.audience import Look

Sums = Mapping[tuple[str, str, str], int]
"""How many deeds there are of each kind, state and name (`Ledger.sums`)."""

_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
_TASK_STATES = ("succeeded", "failed", "retried")


def noted(sums: Sums) -> Counter[str]:
    """What the ledger says, by the words of `told`; opportunities are those still open."""
    found: Counter[str] = Counter()
    for (kind, state, name), count in sums.items():
        if kind == "trade" and state == "executed":
            found[f"trades {name}"] += count
        elif kind == "task":
            found[f"tasks {name} {state}"] += count
        elif kind == "opportunity":
            found["opportunities open"] += count if state == "opened" else -count
    return +found


def told(look: Look) -> Counter[str]:
    """What the exporter says of the same: only what is above 0."""
    found: Counter[str] = Counter()
    for labels, value in _samples(look, "trades_executed_total"):
        found[f"trades {labels['symbol']}"] += value
    for labels, value in _samples(look, "celery_tasks_total"):
        if labels["state"] in _TASK_STATES:
            found[f"tasks {labels['name']} {labels['state']}"] += value
    for _, value in _samples(look, "active_arbitrage_opportunities"):
        found["opportunities open"] += value
    return +found


def _samples(look: Look, name: str) -> list[tuple[dict[str, str], int]]:
    lines = (line.rpartition(" ") for line in look.samples(name))
    return [(dict(_LABEL.findall(labels)), int(float(value))) for labels, _, value in lines]
