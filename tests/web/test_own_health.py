"""What the page says of the exporter itself."""

import re
from dataclasses import replace

from exporter.config import Web
from exporter.model import Reload, Snapshot
from exporter.secret import Secret
from tests.web.serving import DB, NOW, WALL, healthy, serving, snapshot, tally

FACT = re.compile(r"<div( class=\"wrong\")?><dt>([^<]+)</dt><dd>([^<]*)</dd></div>")


async def facts(snap: Snapshot, web: Web = Web(), authorization: str = "") -> dict[str, tuple[str, bool]]:  # noqa: B008 - frozen
    """Each fact with its text, and whether it stands out."""
    async with serving(snap=lambda: snap, web=web) as stand:
        page = (await stand.ask("/", Authorization=authorization)).text
    section = page.partition('<section class="own">')[2].partition("</section>")[0]
    return {name: (text, bool(wrong)) for wrong, name, text in FACT.findall(section)}


async def test_a_sound_exporter_says_so_quietly() -> None:
    """Nothing stands out while nothing is wrong."""
    sound = replace(snapshot(DB), lags=(0.0004,) * 59 + (0.012,), reload=Reload(successful=True, at=WALL - 60))
    assert await facts(sound) == {
        "heartbeat": ("0s ago", False),
        "loop lag": ("12ms, at most 12ms in the last 1m", False),
        "overdue": ("none", False),
        "abandoned runs": ("none", False),
        "configuration": ("loaded 04:04:06Z", False),
    }


async def test_what_is_wrong_stands_out() -> None:
    """The reader of a page that is all unknown must see that it is the exporter."""
    sick = replace(
        snapshot(healthy("a", overdue=NOW - 1), healthy("b", overdue=NOW - 1), healthy("c")),
        beat=NOW - 45,
        lags=(0.1, 6.0, 7.25),
        tallies=(tally("a", 3), tally("b", 0), tally("c", 1)),
        reload=Reload(successful=False, at=WALL - 60, message="config.yaml:3:5: <b>probes.db</b>"),
    )
    assert await facts(sick) == {
        "heartbeat": ("45s ago", True),
        "loop lag": ("7.2s, at most 7.2s in the last 3s", True),
        "overdue": ("a, b", True),
        "abandoned runs": ("a 3, c 1", False),
        "configuration": (
            "the last reload failed: config.yaml:3:5: &lt;b&gt;probes.db&lt;/b&gt;; that of 04:04:06Z is in force",
            True,
        ),
    }


async def test_why_a_reload_failed_is_for_those_who_may_see_details() -> None:
    """It names files and keys; that it failed is for everybody."""
    web = Web(token=Secret("s3cret"), details="authorized")
    failed = replace(snapshot(DB), reload=Reload(successful=False, at=WALL - 60, message="config.yaml:3:5: wrong"))
    assert (await facts(failed, web))["configuration"][0] == "the last reload failed; that of 04:04:06Z is in force"
    assert "config.yaml" in (await facts(failed, web, authorization="Bearer s3cret"))["configuration"][0]


async def test_the_page_of_one_probe_is_about_that_probe() -> None:
    """No section about the exporter there."""
    async with serving(DB) as stand:
        assert 'class="own"' not in (await stand.ask("/health/db?format=html")).text
