"""Whatever a test of this folder loads without a problem, our schema must take too."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from exporter.config import Configuration
from tests.schemas import mistakes


@pytest.fixture(autouse=True)
def _what_loads_suits_the_schema(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An editor that underlines what works would be switched off."""
    loading = import_module("exporter.config.load")  # the package's `load` is the function
    read, good = loading._from_file, list[bytes]()

    def remembered(path: Path, *others: object) -> Configuration:
        configuration: Configuration = read(path, *others)
        good.append(path.read_bytes())
        return configuration

    monkeypatch.setattr(loading, "_from_file", remembered)
    yield
    assert [told for content in good for told in mistakes(content)] == []
