"""Who holds the token."""

import pytest

from exporter.config import Web
from exporter.secret import Secret
from exporter.web.access import Access

GUARDED = Access(lambda: Web(token=Secret("s3cret-tøken"), details="authorized"))


@pytest.mark.parametrize("header", ["Bearer s3cret-tøken", "bearer s3cret-tøken", "BEARER   s3cret-tøken  "])
def test_the_token_opens(header: str) -> None:
    """The scheme is case-insensitive (RFC 9110 11.1)."""
    assert GUARDED.permits(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        "Bearer",
        "Bearer ",
        "s3cret-tøken",
        "Basic s3cret-tøken",
        "Bearer s3cret",
        "Bearer s3cret-tøken x",
        "Bearer \udcff",
    ],
)
def test_anything_else_does_not_and_is_no_error(header: str | None) -> None:
    """A malformed header is a refusal, not a 500."""
    assert not GUARDED.permits(header)
    assert not GUARDED.shows_details(header)


@pytest.mark.parametrize("token", [None, Secret("")])
def test_without_a_token_nobody_is_permitted(token: Secret | None) -> None:
    """An empty token must not be matched by an empty header."""
    access = Access(lambda: Web(token=token, details="authorized"))
    assert not access.has_token
    assert not access.permits("Bearer ")
    assert not access.permits("Bearer")


def test_details_are_for_all_unless_configured_otherwise() -> None:
    """`web.details` is `always` by default."""
    assert Access(Web).shows_details(None)


def test_another_token_counts_from_the_moment_it_is_configured() -> None:
    """A reload that takes a token away must not leave it in force."""
    configured = [Web(token=Secret("old"))]
    access = Access(lambda: configured[0])
    assert access.permits("Bearer old")
    configured[0] = Web(token=Secret("new"))
    assert (access.permits("Bearer old"), access.permits("Bearer new")) == (False, True)
