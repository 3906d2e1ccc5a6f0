"""Which file is taken, what wins over it, and files that cannot be read."""

from importlib import import_module
from pathlib import Path

import pytest

from exporter.config import Listen, find, load
from exporter.config.load import LARGEST_BYTES
from exporter.errors import ConfigError
from exporter.secret import Secret

TEXT = "listen: :1\nweb: {token: from-file}\nprobes:\n  db:\n    type: postgres\n    url: postgresql://127.0.0.1/x\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's file, somewhere else."""
    path = tmp_path / "etc" / "config.yaml"
    path.parent.mkdir()
    monkeypatch.setattr(import_module("exporter.config.load"), "SYSTEM_PATH", path)  # the package's `load` is the function
    return path


def problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_listen_of_the_command_line_wins_over_environment_over_file(file: Path) -> None:
    """The nearer to the person, the stronger."""
    assert load(file, {}).listen == Listen("", 1)
    assert load(file, {"EXPORTER_LISTEN": ":2"}).listen == Listen("", 2)
    assert load(file, {"EXPORTER_LISTEN": ":2"}, listen="127.0.0.1:3").listen == Listen("127.0.0.1", 3)
    assert load(file, {"EXPORTER_LISTEN": ""}).listen == Listen("", 1)


def test_bad_listen_of_the_command_line_is_told(file: Path) -> None:
    """With everything else that is wrong."""
    file.write_text(TEXT.replace("postgres\n", "postgrs\n"))
    with pytest.raises(ConfigError) as caught:
        load(file, {}, listen="x")
    assert [one.place for one in caught.value.problems] == ["--listen", f"{file}:5:11"]


def test_variable_that_kubernetes_injects_is_never_read(file: Path) -> None:
    """A Service called `exporter` sets EXPORTER_PORT=tcp://… in every pod."""
    assert load(file, {"EXPORTER_PORT": "tcp://10.0.0.1:10190"}).listen == Listen("", 1)


def test_token_of_the_environment_wins_and_is_known_as_a_secret(file: Path, tmp_path: Path) -> None:
    """As a variable or as a mounted file."""
    (tmp_path / "token").write_text("mounted\n")
    assert load(file, {}).web.token == Secret("from-file")
    for environ, token in (({"EXPORTER_TOKEN": "set"}, "set"), ({"EXPORTER_TOKEN_FILE": str(tmp_path / "token")}, "mounted")):
        configuration = load(file, environ)
        assert configuration.web.token == Secret(token)
        assert Secret(token) in configuration.secrets


def test_empty_token_is_no_token(file: Path) -> None:
    """`Authorization: Bearer ` must not open anything."""
    file.write_text(TEXT.replace("from-file", "'${T:-}'"))
    assert load(file, {}).web.token is None
    assert load(file, {"EXPORTER_TOKEN": ""}).web.token is None


def test_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """Not there, a folder, no text, far too large: each is said in one line."""
    gone, binary, huge = tmp_path / "gone.yaml", tmp_path / "binary.yaml", tmp_path / "huge.yaml"
    binary.write_bytes(b"\x00\x01\x02")
    huge.write_bytes(b"#" * (LARGEST_BYTES + 1))
    assert problem(gone) == f"{gone}: cannot be read: no such file or directory"
    assert problem(tmp_path) == f"{tmp_path}: cannot be read: is a directory"
    assert problem(binary).startswith(f"{binary}:1:1: a control character")
    assert problem(huge) == f"{huge}: is larger than {LARGEST_BYTES} bytes"
    assert problem(Path("/dev/zero")).startswith("/dev/zero: is larger than")


def test_unreadable_file_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads everything, so the refusal of the system is played."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert problem(file) == f"{file}: cannot be read: permission denied"


def test_file_asked_for_by_name_is_taken_whether_it_is_there_or_not(tmp_path: Path, system: Path) -> None:
    """Falling back to something else would hide a slip."""
    system.write_text(TEXT)
    assert find("x.yaml", {"EXPORTER_CONFIG": "y.yaml"}, tmp_path) == (Path("x.yaml"), None)
    assert find(None, {"EXPORTER_CONFIG": "y.yaml"}, tmp_path) == (Path("y.yaml"), None)


@pytest.mark.parametrize("text", [TEXT, '{"probes": {}}', "probes:\n", "probes:\n\t- broken", "'probes': [\n"])
def test_file_here_is_taken_if_it_is_ours(tmp_path: Path, system: Path, text: str) -> None:
    """Also when it cannot be parsed: then the operator must hear of it."""
    system.write_text(TEXT)
    (tmp_path / "config.yaml").write_text(text)
    assert find(None, {"EXPORTER_CONFIG": ""}, tmp_path) == (tmp_path / "config.yaml", None)


@pytest.mark.parametrize("text", ["server: {port: 80}\n", "- probes\n", "a: {probes: 1}\n", "", "\tbroken", "\x00"])
def test_file_of_another_program_is_passed_over_with_a_line(tmp_path: Path, system: Path, text: str) -> None:
    """Beside an application, `config.yaml` is the application's."""
    here = tmp_path / "config.yaml"
    here.write_text(text)
    line = f"{here}: has no `probes:`, so it is another program's file; passed over"
    assert find(None, {}, tmp_path) == (None, line)
    system.write_text(TEXT)
    assert find(None, {}, tmp_path) == (system, line)


@pytest.mark.usefixtures("system")
def test_without_any_file_the_environment_is_left(tmp_path: Path) -> None:
    """A folder of that name is no file."""
    assert find(None, {}, tmp_path) == (None, None)
    (tmp_path / "config.yaml").mkdir()
    assert find(None, {}, tmp_path) == (None, None)


def test_loading_twice_gives_equal_configurations(file: Path) -> None:
    """A reload tells what has changed by comparing."""
    assert load(file, {}) == load(file, {})
