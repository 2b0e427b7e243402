"""Where the compiled modules look for fields, the fields are."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.compiled.test_build import load_compile

ROOT = Path(__file__).parents[3]
VIEW = re.compile(
    r"ctypedef class (?P<path>[\w.]+)\.(?P<name>\w+) \[object dtbridge_(?P=name), check_size error\]"
)
COMPILED = load_compile().extension("bridge.worker.dispatch").exists()


def views() -> Iterator[tuple[str, str, str]]:
    """Module and name of each class that a .pxd describes, and the C struct it is described by."""
    for file in sorted((ROOT / "bridge").rglob("*.pxd")):
        text = file.read_text(encoding="utf-8")
        structs = dict(
            re.findall(r"PyObject_HEAD\n\s+PyObject ([^;]+);\n\s+} dtbridge_(\w+);", text)
        )
        for view in VIEW.finditer(text):
            struct = next(fields for fields, name in structs.items() if name == view["name"])
            yield view["path"], view["name"], struct


@pytest.mark.parametrize(
    ("module", "name", "struct"), list(views()), ids=lambda value: value if len(value) < 30 else ""
)
def test_a_view_has_the_fields_of_its_class_in_their_order(
    module: str, name: str, struct: str
) -> None:
    described = [field.strip(" *\n") for field in struct.split(",")]
    assert described == sorted(getattr(importlib.import_module(module), name).__struct_fields__)


def test_there_are_views() -> None:
    assert {name for _, name, _ in views()} >= {
        "Request",
        "Publishing",
        "Delivery",
        "Reply",
        "Handler",
    }


def test_what_is_compiled_asks_whether_its_views_are_true() -> None:
    """Every module that is compiled with a view of a class names that class to `fields.check`."""
    seen = {name for _, name, _ in views()}
    for module in load_compile().MODULES:
        source = ROOT / f"{module.replace('.', '/')}.py"
        types_file = (
            ROOT / "bridge" / "compiled" / source.relative_to(ROOT / "bridge").with_suffix(".pxd")
        )
        types = types_file.read_text(encoding="utf-8") if types_file.exists() else ""
        used = {
            name.strip()
            for names in re.findall(r"^from [\w.]+ cimport (.+)$", types, re.MULTILINE)
            for name in names.split(",")
        }
        verified = re.search(
            r"^fields\.check\(\((.*?)\)\)$", source.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert used & seen == (set(re.findall(r"\w+", verified[1])) if verified else set()), module


class Ordered(msgspec.Struct):
    b: int
    a: int


@pytest.mark.skipif(  # where there has to be a C compiler, as in continuous integration, the installation fails without
    not COMPILED, reason="there is no C compiler here"
)
def test_a_class_that_lies_otherwise_is_an_import_error(tmp_path: Path) -> None:
    """`fields.check`, compiled into a module of its own, as it is into each that has views."""
    (tmp_path / "checks.py").write_text(
        "from bridge.compiled import fields\n\ndef check(structs):\n    fields.check(structs)\n"
    )
    (tmp_path / "checks.pxd").write_text("from bridge.compiled cimport fields\n")
    build = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from Cython.Build import cythonize; from setuptools import Distribution, Extension\n"
        "from setuptools.command.build_ext import build_ext\n"
        "made = cythonize([Extension('checks', ['checks.py'])], include_path=[sys.argv[1]], quiet=True)\n"
        "command = build_ext(Distribution({'ext_modules': made})); command.inplace = True\n"
        "command.ensure_finalized(); command.run()\n"
    )
    subprocess.run(
        [sys.executable, "-c", build, str(ROOT)],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
    )
    spec = importlib.util.spec_from_file_location("checks", next(tmp_path.glob("checks*.so")))
    assert spec is not None
    assert spec.loader is not None
    checks: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    checks.check((Ordered,))

    class Odd(msgspec.Struct):
        a: int
        b: int

    Odd.a, Odd.b = Odd.b, Odd.a
    with pytest.raises(ImportError, match=r"Odd\.a does not lie where this was compiled for"):
        checks.check((Odd,))
