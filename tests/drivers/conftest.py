"""What the drivers' tests share."""

import pytest

from tests.http_targets import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority for all: making one takes its time."""
    return Certificates(tmp_path_factory.mktemp("tls"))
