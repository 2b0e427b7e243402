"""Exceptions as text: enough to mend their cause, bounded, and without what only holds memory."""

import importlib
import json
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest

from bridge.telemetry.exceptions import (
    LONGEST,
    PLACE,
    begin_at,
    definition,
    exc_info_of,
    exception_text,
    place,
    qualified_name,
    raised_at,
    users_place,
)


def caught(function: Callable[..., Any], *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:  # noqa: BLE001 - it is what is looked at
        return error
    raise AssertionError


def deeper() -> None:
    raise ValueError("the cause")


def handler() -> None:
    try:
        deeper()
    except ValueError as error:
        raise RuntimeError("on the way") from error


def functions_of(error: BaseException) -> list[str]:
    found, frames = [], error.__traceback__
    while frames is not None:
        found.append(frames.tb_frame.f_code.co_name)
        frames = frames.tb_next
    return found


def test_the_text_is_pythons_with_causes_and_groups() -> None:
    def fail() -> None:
        raise BaseExceptionGroup("both", [caught(handler), KeyError("other")])

    text = exception_text(exc_info_of(caught(fail)))
    for part in (
        "ValueError: the cause",
        "The above exception was the direct cause of",
        "RuntimeError: on the way",
        "ExceptionGroup: both (2 sub-exceptions)",
        "KeyError: 'other'",
        "in deeper",
    ):
        assert part in text


def test_it_is_bounded_and_keeps_its_beginning_and_its_end() -> None:
    def fail() -> None:
        raise ValueError("begin " + "x" * 3 * LONGEST + " end")

    text = exception_text(exc_info_of(caught(fail)))
    assert len(text) < LONGEST + 100
    assert text.startswith("Traceback")
    assert text.endswith(" end")
    assert "characters are left out" in text


def test_so_is_that_of_functions_that_call_each_other() -> None:
    def ping(depth: int) -> None:
        pong(depth + 1)

    def pong(depth: int) -> None:
        ping(depth + 1)

    assert len(exception_text(exc_info_of(caught(ping, 0)))) < LONGEST + 100


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_it_never_raises() -> None:
    def fail() -> None:
        raise Untold

    assert "Untold" in exception_text(exc_info_of(caught(fail)))


def test_a_traceback_begins_with_the_handlers_frame() -> None:
    def outer() -> None:
        handler()

    error = caught(outer)
    assert functions_of(error) == ["caught", "outer", "handler"]
    begin_at(handler, error)
    assert functions_of(error) == ["handler"]


def test_a_decorated_handler_is_known() -> None:
    @wraps(handler)
    def wrapper() -> None:
        handler()

    error = caught(wrapper)
    begin_at(partial(wrapper), error)
    assert functions_of(error) == ["handler"]


def test_without_a_frame_of_the_handler_it_begins_after_the_bridges_own() -> None:
    namespace: dict[str, Any] = {"__name__": "bridge.worker.dispatch", "deeper": deeper}
    exec("def dispatch(): deeper()", namespace)
    error = caught(namespace["dispatch"])
    error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
    begin_at(print, error)
    assert functions_of(error) == ["deeper"]


def test_what_has_no_other_frames_is_left_as_it_is() -> None:
    error = ValueError()
    begin_at(print, error)
    assert error.__traceback__ is None


class Callee:
    def __call__(self) -> None: ...


def test_a_definition_is_a_file_and_a_line() -> None:
    line = handler.__code__.co_firstlineno
    assert definition(handler) == definition(partial(handler)) == f"{__file__}:{line}"
    assert definition(Callee()).startswith(f"{__file__}:")
    assert definition(print) == ""
    assert qualified_name(partial(handler)) == f"{__name__}.handler"


def test_a_place_is_that_of_the_innermost_frame() -> None:
    line = deeper.__code__.co_firstlineno + 1
    assert place(caught(deeper)) == f"{__file__}:{line}"
    assert place(ValueError()) == ""


def test_a_users_place_is_in_no_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import json\n\ndef fail():\n    json.loads('{')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    mine = importlib.import_module("mine")

    assert users_place(caught(mine.fail)) == "mine.py:4"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert users_place(caught(mine.fail)) == f"{file}:4"
    assert users_place(caught(lambda: exec("a(:"))).startswith("<string>:")
    assert users_place(ValueError()) == ""


def test_where_an_exception_came_up_is_told_with_who_called() -> None:
    def calls() -> None:
        handler()

    error = caught(calls)
    begin_at(calls, error)
    lines = [line for line, _ in _places(error)]
    assert raised_at(error) == (
        f"{__file__}:{lines[-1]} in handler, called from {__file__}:{lines[0]} in calls"
    )
    alone = caught(deeper)
    begin_at(deeper, alone)
    assert raised_at(alone) == f"{__file__}:{alone.__traceback__.tb_lineno} in deeper"  # type: ignore[union-attr] # it was raised


def test_where_a_library_raises_it_is_the_users_line_that_is_told() -> None:
    def reads() -> None:
        json.loads("")

    error = caught(reads)
    begin_at(reads, error)
    assert raised_at(error) == f"{__file__}:{error.__traceback__.tb_lineno} in reads"  # type: ignore[union-attr] # it was raised


def test_where_it_came_up_is_bounded_and_can_be_written() -> None:
    code = compile(
        "def " + "f" * 500 + "(g):\n    g()\n", "/" + "d\udc80" * 4_000 + "/v.py", "exec"
    )
    names: dict[str, Any] = {"__name__": "v"}
    exec(code, names)
    error = caught(partial(names["f" * 500], handler))
    begin_at(names["f" * 500], error)
    told = raised_at(error)
    assert len(told) <= PLACE
    assert told.encode()
    assert "/v.py:2 in fff" in told
    assert raised_at(ValueError()) == ""


def _places(error: BaseException) -> list[tuple[int, str]]:
    found, frames = [], error.__traceback__
    while frames is not None:
        found.append((frames.tb_lineno, frames.tb_frame.f_code.co_name))
        frames = frames.tb_next
    return found
