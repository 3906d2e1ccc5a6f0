"""The shipped Grafana dashboards as parsed, and their panels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

DASHBOARDS = sorted((Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards").glob("*.json"))

Panel = Mapping[str, Any]  # as it stands in the JSON


def panels_of(dashboard: Mapping[str, Any]) -> list[Panel]:
    """All but rows, also those inside of folded ones."""
    rows = [row["panels"] for row in dashboard["panels"] if row["type"] == "row"]
    return [panel for some in (dashboard["panels"], *rows) for panel in some if panel["type"] != "row"]
