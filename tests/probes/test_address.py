"""The parts of a URL, and what is said when it cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.probes.address import Server, parse_server, passwords_in
from exporter.secret import Secret

SCHEMES = ("postgresql", "postgres")


def parsed(url: str, *schemes: str) -> Server:
    return parse_server(Secret(url), schemes or SCHEMES)


def refused(url: str, *schemes: str) -> str:
    return str(refusal(url, *schemes))


def refusal(url: str, *schemes: str) -> ValueError | None:
    """The error with which a URL is refused, None for one that is not."""
    try:
        parsed(url, *schemes)
    except ValueError as error:
        return error
    return None


def test_every_part_is_read() -> None:
    """User, password and database are percent-decoded, SQLAlchemy's driver is dropped."""
    server = parsed("postgresql+asyncpg://us%40er:p%2Fw@db.internal:6432/tra%20ding?sslmode=require&application_name=x")
    assert (server.scheme, server.place, server.path) == ("postgresql", "db.internal:6432", "tra ding")
    assert (server.username, server.password) == ("us@er", Secret("p/w"))
    assert (server.query["sslmode"], server.demands_tls) == ("require", True)


@pytest.mark.parametrize(
    ("url", "place", "loopback"),
    [
        ("postgresql://h/x", "h", False),
        ("postgresql://[::1]:1/x", "[::1]:1", True),
        ("postgresql://[2001:db8::1]/x", "[2001:db8::1]", False),
        ("postgresql://127.0.0.9/x", "127.0.0.9", True),
        ("postgresql://127.evil.example/x", "127.evil.example", False),
        ("postgresql://LOCALHOST/x", "localhost", True),
        ("postgresql://%2Frun%2Fpostgresql/x", "/run/postgresql", True),
        ("postgresql:///x", "", True),
    ],
)
def test_place_and_loopback(url: str, place: str, loopback: bool) -> None:
    """A message names host and port; a plain connection is fine on this machine alone."""
    assert (parsed(url).place, parsed(url).is_loopback) == (place, loopback)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "is empty"),
        ("localhost", "not a URL of this type; it begins with postgresql:// or postgres://"),
        ("mysql://h/x", "not a URL of this type; it begins with postgresql:// or postgres://"),
        ("postgresql://h:65536/x", "port 65536 is above 65535"),
        ("postgresql://h:0/x", "port 0 is below 1"),
        ("postgresql://h:1,i:2/x", "names several hosts; name one, and make a probe for each"),
        ("postgresql://u:p w@h/x", "holds white space; percent-encode it, a blank as %20"),
        ("postgresql://h\n/x", "holds white space; percent-encode it, a blank as %20"),
    ],
)
def test_what_cannot_be_read_is_told(url: str, sentence: str) -> None:
    """One sentence that says what to do."""
    assert refused(url) == sentence


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:12345/6@h/x",
        "postgresql://u:123456/x@h",
        "postgresql://u:p#w@h/x",
        "postgresql://u:p?w@h/x",
        "postgresql://u:[p@h/x",
        "postgresql://h:port/x",
    ],
)
def test_unescaped_password_is_recognised(url: str) -> None:
    """What follows the colon would be taken for a port, and shown."""
    assert refused(url).startswith("the host or port cannot be read; percent-encode `@ : / # ?` in the password")


def test_address_with_an_at_sign_in_its_path_is_fine_for_http() -> None:
    """`/@user` is an ordinary path there."""
    assert parsed("https://h:8443/@user", "http", "https").place == "h:8443"


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused_with_a_sentence(text: str) -> None:
    """No other error leaves, so that none can quote the URL."""
    for url in (text, f"postgresql://{text}", f"postgresql://u:{text}@h/x"):
        error = refusal(url)
        assert error is None or (error.__cause__, error.__context__) == (None, None)


def test_fields_beside_the_url_win() -> None:
    """They are taken as they are; the default port comes last."""
    server = Server("postgresql", "h", None, "u", Secret("p"), "db")
    other = server.overridden(host="i", port=None, username=None, password=Secret("%40"), path=None, default_port=5432)
    assert other == Server("postgresql", "i", 5432, "u", Secret("%40"), "db")


def test_passwords_are_found_as_written_and_decoded() -> None:
    """A library may show either."""
    assert list(passwords_in("postgresql://us@er:p%40:w@h/x")) == ["p%40:w", "p@:w"]
    assert list(passwords_in("postgresql://h:5432/x")) == []
    assert list(passwords_in("Bearer x")) == []


def test_repr_shows_neither_password_nor_query() -> None:
    """A server may end up in a debugger's window."""
    shown = repr(parsed("postgresql://u:hunter2@h/hunter2?password=hunter2"))
    assert "hunter2" not in shown
