"""The C views of the Structs are what the classes are."""

import importlib
import os
import re
from pathlib import Path

import pytest

from bridge.compiled.views import FOLDER, HEADER, VIEWS, main, outdated, path, view, write

STRUCT = re.compile(r"PyObject_HEAD\n((?:\s+PyObject \*\w+;\n)+)\s+} dtbridge_(\w+);")
VIEW = re.compile(
    r"ctypedef class ([\w.]+)\.(\w+) \[object dtbridge_\2, check_size error\]:\n"
    r"((?:\s+cdef object \w+\n)+)"
)


def test_the_views_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise run ``python -m bridge.compiled.views``."""
    assert main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("module", VIEWS)
def test_a_view_has_all_fields_of_its_class_in_the_order_of_their_names(module: str) -> None:
    text = path(module, FOLDER).read_text(encoding="utf-8")
    fields = {
        name: sorted(getattr(importlib.import_module(module), name).__struct_fields__)
        for name in VIEWS[module]
    }
    assert {name: re.findall(r"\*(\w+);", body) for body, name in STRUCT.findall(text)} == fields
    assert {
        name: re.findall(r"object (\w+)", body)
        for described, name, body in VIEW.findall(text)
        if described == module
    } == fields


def test_no_view_is_written_by_hand() -> None:
    for file in FOLDER.rglob("*.pxd"):
        text = file.read_text(encoding="utf-8")
        assert ("PyObject_HEAD" in text) == text.startswith(HEADER), file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def test_what_is_written_is_current(folder: Path) -> None:
    assert not list(outdated(folder))
    assert {file.relative_to(folder) for file in folder.rglob("*.pxd")} == {
        path(module, Path()) for module in VIEWS
    }


def test_what_is_missing_changed_or_no_longer_wanted_is_not_current(folder: Path) -> None:
    changed, missing, left = (
        path("bridge.transport", folder),
        path("bridge.request.outcome", folder),
        folder / "request" / "former.pxd",
    )
    changed.write_text(changed.read_text().replace("        cdef object body\n", "", 1))
    missing.unlink()
    left.write_text(HEADER)
    (folder / "request" / "by_hand.pxd").write_text("# Types for a class.\n")
    assert set(outdated(folder)) == {changed, missing, left}
    write(folder)
    assert not list(outdated(folder))
    assert changed.read_text() == view("bridge.transport")
    assert missing.exists()
    assert not left.exists()
    assert (folder / "request" / "by_hand.pxd").exists()


def test_what_is_current_stays_as_old_as_it_is(folder: Path) -> None:
    """Else everything would be compiled again."""
    file = path("bridge.transport", folder)
    os.utime(file, (0, 0))
    write(folder)
    assert file.stat().st_mtime == 0


def test_a_check_writes_nothing_and_names_what_is_not_current(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bridge.compiled.views.FOLDER", folder)
    assert main(["--check"]) == 0
    file = path("bridge.transport", folder)
    file.write_text("")
    assert main(["--check"]) == 1
    assert "run python -m bridge.compiled.views: " in (told := capsys.readouterr().err)
    assert str(file) in told
    assert not file.read_text()
    assert main([]) == 0
    assert main(["--check"]) == 0
