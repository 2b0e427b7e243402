"""Type checkers find wrong handlers, and nothing in right ones; import finds the wrong ones too."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import HandlerError
from tests.unit.routing import right_handlers

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
WRONG = HERE / "wrong_handlers.py"
RIGHT = HERE / "right_handlers.py"

Check = Callable[[Path, Path], set[int]]


def mypy(file: Path, scratch: Path) -> set[int]:
    """The lines of `file` in which mypy sees an error."""
    options = ["--strict", "--config-file=", f"--cache-dir={scratch / 'cache'}", "--output=json"]
    command = [sys.executable, "-m", "mypy", *options, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {each["line"] for each in found if each["severity"] == "error"}


def pyright(file: Path, scratch: Path) -> set[int]:
    """The lines of `file` in which pyright sees an error."""
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (scratch / "pyrightconfig.json").write_text(json.dumps(settings))
    (scratch / file.name).write_text(file.read_text())
    program = str(Path(sys.executable).with_name("basedpyright"))
    command = [program, "--outputjson", "--pythonpath", sys.executable, "--project", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == 1
    errors = [each for each in found["generalDiagnostics"] if each["severity"] == "error"]
    return {each["range"]["start"]["line"] + 1 for each in errors}


def marked() -> dict[int, str]:
    """The lines that are wrong, and what they say of it."""
    lines = enumerate(WRONG.read_text().splitlines(), 1)
    split = ((number, line.partition("  # ")[2]) for number, line in lines)
    return {number: mark for number, mark in split if mark.startswith("wrong")}


def statements() -> Iterator[tuple[ast.stmt, str | None]]:
    """Each statement of the file, and its mark; None: there is nothing wrong with it."""
    marks = marked()
    for statement in ast.parse(WRONG.read_text()).body:
        first = min(each.lineno for each in ast.walk(statement) if hasattr(each, "lineno"))
        yield statement, marks.get(first)


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_type_checker_finds_each_wrong_handler_where_it_is_registered(
    check: Check, tmp_path: Path
) -> None:
    assert len(marked()) >= 40
    assert check(WRONG, tmp_path) == set(marked())


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_type_checker_has_nothing_to_say_of_right_ones(check: Check, tmp_path: Path) -> None:
    assert check(RIGHT, tmp_path) == set()


def test_what_is_right_is_registered() -> None:
    assert len(list(right_handlers.kept.handlers())) >= 25


def test_what_a_type_checker_finds_is_refused_at_import_as_well() -> None:
    names: dict[str, Any] = {"__name__": "acme"}
    refused = 0
    for statement, mark in statements():
        code = compile(ast.Module([statement], []), WRONG.name, "exec", dont_inherit=True)
        if mark == "wrong":
            with pytest.raises((HandlerError, TypeError)) as caught:
                exec(code, names)
            only_python_says = "unexpected keyword argument" in str(caught.value)
            assert isinstance(caught.value, HandlerError) or only_python_says, ast.unparse(
                statement
            )
            refused += 1
        else:
            exec(code, names)
    assert refused >= 40
