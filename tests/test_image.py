"""What the image is made of: pinned, hashed dependencies, and a Dockerfile that keeps its promises. No image is built here."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
REQUIREMENTS = (ROOT / "deploy/requirements.txt").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _pins() -> dict[str, Version]:
    lines = re.findall(r"(?m)^([a-z0-9-]+)==([^ ;\\]+)", REQUIREMENTS)
    return {name: Version(version) for name, version in lines}


def _dependencies() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"]]


def _needs(requirement: Requirement) -> list[Requirement]:
    """What an installed distribution asks for here, with the extras that `requirement` names."""
    asked = [Requirement(line) for line in distribution(requirement.name).requires or ()]
    extras = {"", *requirement.extras}
    return [need for need in asked if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)]


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    """A dependency that was added or raised without the pins would fail the image, not the tests."""
    pins = _pins()
    for requirement in _dependencies():
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_pins_are_complete() -> None:
    """`--require-hashes` refuses a dependency's dependency that is not listed."""
    pins, ways, seen = _pins(), _dependencies(), set()
    while ways:
        requirement = ways.pop()
        assert canonicalize_name(requirement.name) in pins, requirement
        if str(requirement) not in seen:
            seen.add(str(requirement))
            ways += _needs(requirement)


def test_the_oldest_python_gets_what_it_needs() -> None:
    """redis-py needs async-timeout before Python 3.11.3 only, so a lock made on a newer one easily lacks it."""
    assert "async-timeout==" in REQUIREMENTS


def test_every_pin_has_hashes_and_no_index_is_named() -> None:
    """Where packages come from is the builder's affair; what they are is ours."""
    blocks = re.split(r"(?m)^(?=[a-z0-9])", REQUIREMENTS)[1:]
    assert len(blocks) == len(_pins())
    assert all("--hash=sha256:" in block for block in blocks)
    text = "\n".join(line for line in REQUIREMENTS.splitlines() if not line.startswith("#"))
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|^-", text, re.MULTILINE)


def test_both_stages_are_the_same_python() -> None:
    """The virtual environment of one Python is no use to another."""
    assert re.findall(r"(?m)^FROM (\S+)", DOCKERFILE) == ["python:${PYTHON}-slim"] * 2


def test_the_image_runs_as_a_number_with_a_health_check() -> None:
    """runAsNonRoot refuses a name; Docker restarts nothing that has no check."""
    final = DOCKERFILE.rpartition("FROM ")[2]
    assert "USER 65532:65532\n" in final
    assert "HOME=/home/exporter" in final
    assert 'CMD ["exporter", "healthcheck"]' in final
    assert "EXPOSE 10190\n" in final
    assert "mkdir /etc/sidecar-exporter" in final


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    """A file left out by .dockerignore fails the build on the first machine that has Docker."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE)
    assert {source for sources in copied for source in sources.split()} == allowed
