"""What a path leads to is watched, not a file."""

from pathlib import Path

import pytest

from exporter.app.watch import Watch


def looks(watch: Watch, count: int = 3) -> int:
    """How many of so many looks in a row told of a change."""
    return sum(watch.changed() for _ in range(count))


def watched(path: Path) -> Watch:
    """A watch past its first look, which always counts: the file was read a moment before."""
    watch = Watch(path)
    assert watch.changed()
    return watch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("one")
    return path


def test_other_content_is_told_once(path: Path) -> None:
    """Once it has settled: a file that is being written is not yet worth reading."""
    watch = watched(path)
    assert looks(watch) == 0
    path.write_text("two!")
    assert [watch.changed(), watch.changed(), watch.changed()] == [False, True, False]


def test_a_file_that_is_written_bit_by_bit_is_told_when_it_rests(path: Path) -> None:
    """Half a file is a bad file, which would be a false alarm."""
    watch = watched(path)
    for length in range(1, 6):
        path.write_text("x" * 10 * length)
        assert not watch.changed()
    assert looks(watch) == 1


def test_a_swapped_folder_behind_links_is_seen(tmp_path: Path) -> None:
    """As Kubernetes updates a ConfigMap: config.yaml → ..data/config.yaml, ..data → ..2026, and ..data is renamed over."""
    for name, content in (("..1", "one"), ("..2", "two!")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(content)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "config.yaml"
    path.symlink_to("..data/config.yaml")
    watch = watched(path)
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert looks(watch) == 1
    assert path.read_text() == "two!"


def test_a_file_that_goes_for_good_is_told_and_so_is_its_return(path: Path) -> None:
    """An operator must learn that what runs stands in no file any more; an editor's renaming passes unseen."""
    watch = watched(path)
    path.unlink()
    assert looks(watch) == 1
    path.write_text("one")
    assert looks(watch) == 1
