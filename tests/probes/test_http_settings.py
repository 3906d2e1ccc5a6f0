"""What can be written under a probe of type http, and what is said of a mistake."""

from base64 import b64decode
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.probes.http.metrics import DECLARED
from exporter.probes.http.settings import UP, HttpSettings

URL = "https://api.example.com/ping"


def settings(**keys: object) -> HttpSettings:
    """Settings as the configuration makes them."""
    return HttpSettings.model_validate({"type": "http", "url": URL} | keys)


def problems(**keys: object) -> list[tuple[str, str]]:
    """Path and sentence of each problem."""
    with pytest.raises(ValidationError) as caught:
        settings(**keys)
    errors: list[Any] = caught.value.errors(include_url=False, include_input=False)
    return [(".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")) for error in errors]


def test_defaults() -> None:
    """A URL is enough."""
    plain = settings()
    assert (plain.method, plain.expect_status, plain.follow_redirects, plain.authorization) == ("GET", ("2xx",), True, None)
    assert (plain.server.scheme, plain.server.host, plain.server.port, plain.server.is_loopback) == (
        "https",
        "api.example.com",
        443,
        False,
    )
    assert plain.address.reveal() == URL
    assert plain.declared() == (UP, *DECLARED)


def test_an_http_url_has_port_80() -> None:
    """For the config check: where it goes, and that it goes in the clear."""
    assert (settings(url="http://127.0.0.1").server.place, settings(url="http://127.0.0.1").server.is_loopback) == (
        "127.0.0.1:80",
        True,
    )
    assert settings(url="HTTP://[::1]:8080/").server.place == "[::1]:8080"


@pytest.mark.parametrize(
    ("url", "address", "credentials"),
    [
        ("https://u:p%40ss@h/a?b=c@d#e", "https://h/a?b=c@d#e", "u:p@ss"),
        ("https://u@h", "https://h", "u:"),
        ("https://:token@h", "https://h", ":token"),
        (" https://n%C3%A9e:x@h:8443 ", "https://h:8443", "née:x"),
        ("https://h?mail=a@b", "https://h?mail=a@b", None),
    ],
)
def test_the_user_of_the_url_becomes_basic_authentication(url: str, address: str, credentials: str | None) -> None:
    """Percent-decoded, sent as a header, and gone from the URL, which gets into messages in part."""
    parsed = settings(url=url)
    assert parsed.address.reveal() == address
    header = parsed.authorization
    assert (b64decode(header.reveal().removeprefix("Basic ")).decode() if header else None) == credentials


def test_basic_and_bearer() -> None:
    """The fields are taken literally."""
    basic = settings(basic_auth={"username": "u", "password": "a:b%40"}).authorization
    assert basic is not None
    assert b64decode(basic.reveal().removeprefix("Basic ")) == b"u:a:b%40"
    bearer = settings(bearer_token="t0ken").authorization
    assert bearer is not None
    assert bearer.reveal() == "Bearer t0ken"


@pytest.mark.parametrize(
    ("written", "patterns"),
    [
        (["2xx", 404], ("2xx", "404")),
        (["200", "3XX"], ("200", "3xx")),
        (204, ("204",)),
        ("2xx", ("2xx",)),
    ],
)
def test_statuses_as_people_write_them(written: object, patterns: tuple[str, ...]) -> None:
    """YAML makes 200 a number, and one status needs no list."""
    assert settings(expect_status=written).expect_status == patterns


def test_a_method_in_any_case() -> None:
    """Configuration files are typed by people."""
    assert settings(method="post", body="x").method == "POST"


def test_headers_are_kept_as_written() -> None:
    """Host too: many servers choose the site by it."""
    assert settings(headers={"Host": "app", "X-Empty": ""}).headers.keys() == {"Host", "X-Empty"}


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://hunter2@h/", "not a URL of this type; it begins with http:// or https://"),
        ("http+unix://hunter2/", "not a URL of this type; it begins with http:// or https://"),
        ("api.example.com/hunter2", "not a URL of this type; it begins with http:// or https://"),
        ("http://", "names no host"),
        ("", "is empty"),
        ("http://a,b/hunter2", "names several hosts; name one, and make a probe for each"),
        ("http:///hunter2", "names no host"),
        ("http://u:hunter2@/", "names no host"),
        ("http://h_(hunter2)/", "names no host that could be looked up"),
        ("http://h:99999/hunter2", "port 99999 is above 65535"),
        ("http://h:0/", "port 0 is below 1"),
        ("http://h/a b?hunter2", "holds white space; percent-encode it, a blank as %20"),
        ("http://h/\r\nHost: hunter2", "holds white space; percent-encode it, a blank as %20"),
        ("http://a%3Ab:hunter2@h/", "a user name for basic authentication cannot hold a colon"),
    ],
)
def test_a_bad_url_is_explained_without_its_secrets(url: str, sentence: str) -> None:
    """The check's output ends up in tickets."""
    assert problems(url=url) == [("url", sentence)]


def test_a_password_that_breaks_the_url_is_explained() -> None:
    """The usual mistake: a `/` of the password ends the host."""
    ((path, sentence),) = problems(url="http://u:hunter/2@h/")
    assert path == "url"
    assert sentence.startswith("the host or port cannot be read; percent-encode `@ : / # ?` in the password")


@pytest.mark.parametrize(
    ("keys", "path", "sentence"),
    [
        (
            {"headers": {"X A": "hunter2"}},
            "headers",
            "`X A` is not a header name; it holds letters, digits and a few signs such as `-`",
        ),
        ({"headers": {"": "hunter2"}}, "headers", "`` is not a header name; it holds letters, digits and a few signs such as `-`"),
        ({"headers": {"X": "hunter2\r\nY: z"}}, "headers", "the value of X holds a line break or another control character"),
        ({"headers": {"Content-Length": "3"}}, "headers", "Content-Length is written by the exporter itself"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers", "x-a stands twice; case makes no difference"),
        ({"headers": {"X": 5}}, "headers.X", "not text; put it in quotes"),
        ({"expect_status": []}, "expect_status", "needs at least one status, such as 2xx"),
        ({"expect_status": ["ok"]}, "expect_status.0", "not an HTTP status; write 200 or a class such as 2xx"),
        ({"expect_status": [True]}, "expect_status.0", "not an HTTP status; write 200 or a class such as 2xx"),
        ({"expect_status": 99}, "expect_status.0", "not an HTTP status; write 200 or a class such as 2xx"),
        ({"body_regex": "("}, "body_regex", "not a regular expression: missing ), unterminated subpattern at position 0"),
        (
            {"bearer_token": ""},
            "bearer_token",
            "a bearer token is not empty and holds no space, line break or other control character",
        ),
        (
            {"bearer_token": "hun ter2"},
            "bearer_token",
            "a bearer token is not empty and holds no space, line break or other control character",
        ),
        (
            {"basic_auth": {"username": "a:b", "password": "hunter2"}},
            "basic_auth.username",
            "a user name for basic authentication cannot hold a colon",
        ),
        (
            {"bearer_token": "t", "basic_auth": {"username": "u", "password": "hunter2"}},
            "",
            "basic_auth and bearer_token exclude each other; give one",
        ),
        (
            {"url": "https://u:hunter2@h", "bearer_token": "t"},
            "",
            "bearer_token and a user in the url exclude each other; give one",
        ),
        (
            {"headers": {"authorization": "hunter2"}, "bearer_token": "t"},
            "",
            "bearer_token and an Authorization header exclude each other; give one",
        ),
        ({"body": "hunter2"}, "", "GET takes no body; use method: POST, or leave body out"),
        ({"method": "HEAD", "body_regex": "ok"}, "", "an answer to HEAD has no body in which body_regex could be found"),
    ],
)
def test_mistakes(keys: dict[str, object], path: str, sentence: str) -> None:
    """Each is named at its place, with what is allowed, and without any secret beside it."""
    assert problems(**keys) == [(path, sentence)]


def test_no_secret_is_shown_by_the_settings() -> None:
    """A log line of the whole configuration is harmless."""
    shown = repr(
        settings(
            url="https://u:hunter2@h/?key=hunter2", method="POST", headers={"X": "hunter2"}, body="hunter2", tls={"ca_file": "/ca"}
        )
    )
    assert "hunter2" not in shown
    assert "hunter2" not in repr(settings(bearer_token="hunter2"))


def test_the_schema_can_be_written() -> None:
    """Editors complete from it; every key says what it is."""
    properties = HttpSettings.model_json_schema()["properties"]
    own = {"url", "method", "headers", "body", "expect_status", "body_regex", "not_body_regex", "follow_redirects", "basic_auth"}
    assert all("description" in properties[key] for key in own | {"bearer_token"})
