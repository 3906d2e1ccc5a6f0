"""One file for each mistake, beside exactly what is said of it."""

from pathlib import Path

import pytest

from exporter.config import load
from exporter.errors import ConfigError
from exporter.probes import TYPES

FOLDER = Path(__file__).parent.parent / "data" / "bad-config"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", FILES)
def test_mistake_is_told_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence, its place and its path are what an operator works with, so each is fixed to the letter."""
    monkeypatch.chdir(FOLDER)
    with pytest.raises(ConfigError) as caught:
        load(Path(name), {})
    expected = Path(name).with_suffix(".txt").read_text().replace("{types}", ", ".join(TYPES))
    assert f"{caught.value}\n" == expected


def test_each_file_has_its_expectation() -> None:
    """A file without its text, or a text without its file, would test nothing."""
    assert len(FILES) > 50
    assert [path.stem for path in sorted(FOLDER.glob("*.txt"))] == [Path(name).stem for name in FILES]
