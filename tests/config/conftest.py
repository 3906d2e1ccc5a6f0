"""Whatever a test of this folder loads without a problem, our schema must take too."""

from importlib import import_module
from pathlib import Path

import pytest

from exporter.config import Configuration
from tests.schemas import mistakes


@pytest.fixture(autouse=True)
def _what_loads_suits_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that underlines what works would be switched off."""
    loading = import_module("exporter.config.load")  # the package's `load` is the function
    read = loading._from_file

    def held_to_the_schema(path: Path, *others: object) -> Configuration:
        configuration: Configuration = read(path, *others)
        assert mistakes(path.read_bytes()) == []
        return configuration

    monkeypatch.setattr(loading, "_from_file", held_to_the_schema)
