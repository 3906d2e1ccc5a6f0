"""The table of cases: nobody is left out, and nothing is spared without a reason."""

from exporter.probes import TYPES
from tests.contract.cases import CASES


def test_every_type_has_a_case() -> None:
    """A type that is not held to the contract is not one of ours."""
    assert {case.type for case in CASES} == set(TYPES)


def test_a_case_is_told_from_every_other() -> None:
    """Two of one name would be one in a report."""
    assert len({case.name for case in CASES}) == len(CASES)


def test_what_is_spared_has_its_reason() -> None:
    """A fault that a case does not meet must not be one that it does not survive."""
    assert [case.name for case in CASES for reason in case.spared.values() if len(reason.split()) < 5] == []
