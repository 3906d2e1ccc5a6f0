"""The shipped dashboards against Grafana's own model of them: no Grafana runs here, so what it would stumble over is a test.

Fields and their values as in Grafana 10.4 to 11, packages/grafana-schema (dashboard_types.gen.ts, common.gen.ts, panelcfg).
Their expressions are run in test_prometheus.py.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest

from tests.deploy.dashboards import DASHBOARDS, Panel, panels_of

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
SCHEMAS = range(38, 40)
"""Versions of the dashboard model that Grafana 10 and 11 write."""
OPTIONS: Mapping[str, Mapping[str, set[object]]] = {
    "stat": {
        "colorMode": {"none", "value", "background", "background_solid"},
        "graphMode": {"none", "line", "area"},
        "textMode": {"auto", "value", "value_and_name", "name", "none"},
        "justifyMode": {"auto", "center"},
        "orientation": {"auto", "horizontal", "vertical"},
    },
    "state-timeline": {"mergeValues": {True, False}, "showValue": {"auto", "always", "never"}},
    "timeseries": {},
}
OBJECTS = {"legend", "tooltip", "reduceOptions", "rowHeight"}
"""Options that are no choice among a few words."""
UNITS = {"none", "s", "bytes", "percent", "percentunit", "currencyUSD"}
OWN_UNIT = re.compile(r"suffix:/\w+")


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return json.loads(request.param.read_text())  # type: ignore[no-any-return]


@pytest.fixture
def panels(dashboard: Mapping[str, Any]) -> list[Panel]:
    return panels_of(dashboard)


def test_it_is_found_again_and_fits_grafana_10_and_11(dashboard: Mapping[str, Any]) -> None:
    """A provisioned dashboard without a uid gets a new one at each start, and every link to it breaks."""
    assert re.fullmatch(r"[a-z0-9-]{1,40}", dashboard["uid"])
    assert dashboard["title"]
    assert dashboard["schemaVersion"] in SCHEMAS
    assert dashboard.get("id") is None


def test_the_datasource_is_the_readers_choice(dashboard: Mapping[str, Any], panels: list[Panel]) -> None:
    """A uid of one Grafana is unknown to every other."""
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert [name for name, variable in variables.items() if variable.get("datasource", DATASOURCE) != DATASOURCE] == []
    named = [query["datasource"] for panel in panels for query in (panel, *panel["targets"]) if "datasource" in query]
    assert len(named) >= len(panels)
    assert [one for one in named if one != DATASOURCE] == []


def test_titles_and_ids_are_their_own(dashboard: Mapping[str, Any], panels: list[Panel]) -> None:
    """Grafana renumbers panels that share an id, and links to them lead elsewhere."""
    rows = [panel for panel in dashboard["panels"] if panel["type"] == "row"]
    ids = Counter(panel["id"] for panel in (*rows, *panels))
    assert [id_ for id_, count in ids.items() if count > 1] == []
    assert [title for title, count in Counter(panel["title"] for panel in panels).items() if count > 1] == []


def test_every_panel_says_what_it_shows_and_in_which_unit(panels: list[Panel]) -> None:
    """A number without its unit and its source is a riddle at night."""
    for panel in panels:
        assert re.fullmatch(r"[A-Z].{20,}\.", panel["description"]), panel["title"]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        assert unit in UNITS or OWN_UNIT.fullmatch(unit), panel["title"]


def test_panels_stand_in_the_grid_and_on_nobodys_feet(dashboard: Mapping[str, Any]) -> None:
    """Grafana pushes panels that overlap out of the way, and the page is another one."""
    places = {panel["title"] + panel["type"]: panel["gridPos"] for panel in dashboard["panels"]}
    for title, place in places.items():
        assert place["x"] >= 0, title
        assert place["x"] + place["w"] <= COLUMNS, title
    assert [(a, b) for (a, p), (b, q) in combinations(places.items(), 2) if _overlap(p, q)] == []


def _overlap(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_every_query_asks_something_and_names_what_comes(panels: list[Panel]) -> None:
    """Without a legend Grafana prints all labels of a series, and the panel is full of them."""
    for panel in panels:
        references = [target["refId"] for target in panel["targets"]]
        assert references, panel["title"]
        assert len(set(references)) == len(references), panel["title"]
        for target in panel["targets"]:
            assert target["expr"].strip(), panel["title"]
            assert target["legendFormat"], panel["title"]
            assert 'instance=~"$instance"' in target["expr"], panel["title"]


def test_no_query_makes_up_a_number(panels: list[Panel]) -> None:
    """`or vector(0)` and `absent()` draw a line where nothing is known."""
    made_up = re.compile(r"\bvector\s*\(|\babsent(_over_time)?\s*\(")
    assert [panel["title"] for panel in panels for target in panel["targets"] if made_up.search(target["expr"])] == []


def test_options_are_those_that_the_panel_has(panels: list[Panel]) -> None:
    """Grafana ignores what it does not know, and shows something else."""
    for panel in panels:
        known = OPTIONS[panel["type"]]
        assert set(panel["options"]) <= known.keys() | OBJECTS, panel["title"]
        assert [name for name, value in panel["options"].items() if name in known and value not in known[name]] == [], panel[
            "title"
        ]


def test_states_have_a_word_and_a_colour(panels: list[Panel]) -> None:
    """Four in red says nothing: states are mapped, or their thresholds colour them."""
    stateful = [panel["fieldConfig"]["defaults"] for panel in panels if panel["type"] in ("stat", "state-timeline")]
    assert len(stateful) >= 4
    for defaults in stateful:
        assert defaults["color"] == {"mode": "thresholds"}
        steps = defaults["thresholds"]["steps"]
        assert steps[0]["value"] is None
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
        assert len(steps) > 1 or defaults["mappings"]
        results = [result for mapping in defaults["mappings"] for result in _results(mapping)]
        assert all(result["text"] and result["color"] for result in results)
        assert [result["index"] for result in results] == list(range(len(results)))


def _results(mapping: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if mapping["type"] == "special":
        assert mapping["options"]["match"] in ("null", "nan", "null+nan", "empty", "true", "false")
        return [mapping["options"]["result"]]
    assert mapping["type"] == "value"
    return list(mapping["options"].values())


def test_the_variable_of_a_query_is_there(dashboard: Mapping[str, Any], panels: list[Panel]) -> None:
    """A variable that is not declared stays a dollar sign in the query."""
    declared = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval", "__range", "__interval"}
    used = {name for panel in panels for target in panel["targets"] for name in re.findall(r"\$\{?(\w+)", target["expr"])}
    assert used <= declared
