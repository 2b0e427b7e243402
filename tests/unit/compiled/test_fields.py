"""A compiled module asks whether the fields lie where it looks for them, and is told if not."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.compiled.views import VIEWS
from hatch_build import MODULES, extension, source

ROOT = Path(__file__).parents[3]
STRUCTS = {name for names in VIEWS.values() for name in names}


@pytest.mark.parametrize("module", MODULES)
def test_what_is_compiled_asks_whether_its_views_are_true(module: str) -> None:
    """Every module that is compiled with a view of a class names that class to `fields.check`."""
    relative = source(module).relative_to(ROOT / "bridge").with_suffix(".pxd")
    file = ROOT / "bridge" / "compiled" / relative
    types = file.read_text(encoding="utf-8") if file.exists() else ""
    used = {
        name.strip()
        for names in re.findall(r"^from [\w.]+ cimport (.+)$", types, re.MULTILINE)
        for name in names.split(",")
    }
    verified = re.search(
        r"^fields\.check\(\((.*?)\)\)$",
        source(module).read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert used & STRUCTS == (set(re.findall(r"\w+", verified[1])) if verified else set())


class Ordered(msgspec.Struct):
    b: int
    a: int


class Base(msgspec.Struct):
    b: int


class Derived(Base):
    a: int


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`fields.check`, compiled into a module of its own, as it is into each that has views."""
    folder = tmp_path_factory.mktemp("checks")
    (folder / "checks.py").write_text(
        "from bridge.compiled import fields\n\ndef check(structs):\n    fields.check(structs)\n"
    )
    (folder / "checks.pxd").write_text("from bridge.compiled cimport fields\n")
    build = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from Cython.Build import cythonize; from setuptools import Distribution, Extension\n"
        "from setuptools.command.build_ext import build_ext\n"
        "made = cythonize(\n"
        "    [Extension('checks', ['checks.py'])], include_path=[sys.argv[1]], quiet=True\n"
        ")\n"
        "command = build_ext(Distribution({'ext_modules': made})); command.inplace = True\n"
        "command.ensure_finalized(); command.run()\n"
    )
    subprocess.run(
        [sys.executable, "-c", build, str(ROOT)],
        check=True,
        cwd=folder,
        capture_output=True,
        timeout=120,
    )
    spec = importlib.util.spec_from_file_location("checks", next(folder.glob("checks*.so")))
    assert spec is not None
    assert spec.loader is not None
    checks: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    return checks.check


needs_compiler = pytest.mark.skipif(  # where there has to be one, installing fails without
    not extension("bridge.worker.dispatch").exists(), reason="there is no C compiler here"
)


@needs_compiler
def test_fields_in_the_order_of_their_names_are_where_they_are_looked_for(check: Any) -> None:
    check((Ordered,))


@needs_compiler
def test_a_class_that_lies_otherwise_is_an_import_error(check: Any) -> None:
    class Odd(msgspec.Struct):
        a: int
        b: int

    Odd.a, Odd.b = Odd.b, Odd.a
    with pytest.raises(ImportError, match=r"Odd\.a does not lie where this was compiled for"):
        check((Ordered, Odd))


@needs_compiler
def test_the_fields_of_a_base_class_lie_first_and_have_no_view(check: Any) -> None:
    with pytest.raises(ImportError, match=r"Derived\.a does not lie where this was compiled for"):
        check((Derived,))
