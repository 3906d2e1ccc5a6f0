"""Accept and Accept-Encoding, from the headers that real clients send to what nobody ever should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.negotiation import Codings, Form, codings, health_form, wants_openmetrics

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_TEXT_FIRST = (
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2"
)
PROMETHEUS_3_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2_5 = "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
CHROME = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
AXIOS = "application/json, text/plain, */*"


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS_2_42, True),
        (PROMETHEUS_3, True),
        (PROMETHEUS_3_PROTOBUF, True),
        (PROMETHEUS_3_TEXT_FIRST, False),
        (PROMETHEUS_2_5, False),
        (PROMETHEUS_3.replace("allow-utf-8", "allow-utf8"), True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("APPLICATION/OpenMetrics-Text;Version=1.0.0", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=1.0.0;q=0", False),
        ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.9", False),
        ("application/*", True),
        ("text/plain;version=zzz", False),
        ("text/plain;version=0.0.4", False),
        (FIREFOX, False),
        (CHROME, False),
        ("*/*", False),
        ("", False),
        ("image/png", False),
        ("*/*;q=0", False),
    ],
)
def test_the_exposition_format_follows_what_scrapers_really_send(accept: str, openmetrics: bool) -> None:
    """A wrong guess costs every sample of the scrape."""
    assert wants_openmetrics(accept) is openmetrics


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.JSON),
        ("*/*", Form.JSON),
        (AXIOS, Form.JSON),
        ("application/json", Form.JSON),
        ("application/health+json", Form.JSON),
        ("image/png", Form.JSON),
        (FIREFOX, Form.HTML),
        (CHROME, Form.HTML),
        (JAVA, Form.HTML),
        ("text/plain", Form.TEXT),
        ("text/*", Form.TEXT),
        ("text/plain;charset=utf-8", Form.TEXT),
        ("text/plain, */*;q=0.1", Form.TEXT),
        ("text/html;q=0, */*", Form.JSON),
        ("application/json;q=0, */*", Form.TEXT),
        ("text/html;q=0.1, application/json;q=0.2", Form.JSON),
        ("text/plain;q=0.30, text/html;q=0.3", Form.TEXT),
        ("text/html;q=1.5;q=1", Form.HTML),
        ("text/html;q=high", Form.JSON),
        ('text/html;note="a,b;q=0"', Form.HTML),
    ],
)
def test_the_health_form_is_json_unless_text_or_html_is_wanted_more(accept: str, form: Form) -> None:
    """`curl | jq` must work, a browser must get a page, and nothing else may be an error."""
    assert health_form(accept) is form


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", Codings(gzip=False, identity=True)),
        ("gzip", Codings(gzip=True, identity=True)),
        ("identity", Codings(gzip=False, identity=True)),
        ("gzip, deflate, br, zstd", Codings(gzip=True, identity=True)),
        ("x-gzip", Codings(gzip=True, identity=True)),
        ("GZIP;Q=0.5", Codings(gzip=True, identity=True)),
        ("gzip;q=0", Codings(gzip=False, identity=True)),
        ("gzip;q=0.5, identity", Codings(gzip=False, identity=True)),
        ("gzip;q=0.5, identity;q=0.5", Codings(gzip=True, identity=True)),
        ("*", Codings(gzip=True, identity=True)),
        ("*;q=0", Codings(gzip=False, identity=False)),
        ("gzip, *;q=0", Codings(gzip=True, identity=False)),
        ("identity;q=0, gzip;q=0.1", Codings(gzip=True, identity=False)),
        ("gzip;q=0, *", Codings(gzip=False, identity=True)),
        ("zstd", Codings(gzip=False, identity=True)),
        ("gzip;q=often", Codings(gzip=False, identity=True)),
        (",;=", Codings(gzip=False, identity=True)),
    ],
)
def test_gzip_is_sent_to_who_wants_it_and_to_nobody_else(accept_encoding: str, expected: Codings) -> None:
    """A body in a coding that the client refused is lost to it."""
    assert codings(accept_encoding) == expected


_PIECES = st.lists(
    st.sampled_from(
        [*',;=/*"\\ .q', "q=", "text/plain", "text/html", "application/openmetrics-text", "version=1.0.0", "0.5", "gzip"]
    )
    | st.text(max_size=5)
).map("".join)


@given(_PIECES)
def test_no_header_ever_fails(header: str) -> None:
    """The client library answers 500 to some of these."""
    assert health_form(header) in Form
    assert wants_openmetrics(header) in (True, False)
    assert codings(header).gzip in (True, False)


@given(st.lists(st.sampled_from(["text/plain", "text/html", "application/json", "a/b", "*/*"]), max_size=4), st.integers(0, 10))
def test_a_form_asked_for_above_all_others_is_given(others: list[str], place: int) -> None:
    """q decides, not the order."""
    ranges = [f"{other};q=0.{9 - index}" for index, other in enumerate(others) if other != "text/html"]
    ranges.insert(place, "text/html")
    assert health_form(", ".join(ranges)) is Form.HTML
