"""Type checkers know the packs: they find what is wrong, and nothing in what is right."""

from pathlib import Path

import pytest

from tests.unit.routing.test_protocols import Check, mypy, pyright

WRONG = Path(__file__).with_name("wrong_packs.py")


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_type_checker_finds_each_wrong_line_and_no_other(check: Check, tmp_path: Path) -> None:
    lines = enumerate(WRONG.read_text().splitlines(), 1)
    marked = {number for number, line in lines if line.endswith("# wrong")}
    assert len(marked) >= 15
    assert check(WRONG, tmp_path) == marked
