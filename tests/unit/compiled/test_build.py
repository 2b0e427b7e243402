"""The compiled hot path: there, told apart, and replaceable by its sources."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SHOW = "import importlib, sys; print(*(importlib.import_module(name).__file__ for name in sys.argv[1:]))"


def load_compile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files_in_use(**environment: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", SHOW, *load_compile().MODULES],
        check=True, cwd=ROOT, capture_output=True, text=True, timeout=60, env=os.environ | environment,
    )  # fmt: skip
    return ended.stdout.split()


def test_the_sources_run_where_the_environment_asks_for_them() -> None:
    assert all(name.endswith(".py") for name in files_in_use(DTBRIDGE_PURE="1"))


@pytest.mark.skipif(  # where there has to be a C compiler, as in continuous integration, the installation fails without
    not load_compile().extension("bridge.rabbitmq.consuming").exists(),
    reason="there is no C compiler here",
)
def test_the_compiled_modules_run_where_they_are() -> None:
    assert not any(name.endswith(".py") for name in files_in_use(DTBRIDGE_PURE="0"))


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """hatch_build.py, in a tree of its own where a compiled module is, and a compiler that fails."""
    module: Any = load_compile()

    def fail() -> None:
        raise OSError("no compiler")

    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name in module.MODULES:
        source, compiled = module.source(name), module.extension(name)
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("")
        source.with_suffix(".pxd").write_text("")
        compiled.write_text("of an older source")
        os.utime(compiled, (0, 0))

    monkeypatch.setattr(module, "compile_in_place", fail)
    return module


def test_without_a_compiler_nothing_older_is_left_to_run(
    compiler: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not compiler.compile_as_told()
    assert not list(compiler.ROOT.rglob(f"*{compiler.SUFFIX}"))
    assert "runs as Python: OSError: no compiler" in capsys.readouterr().err


def test_a_build_that_requires_a_compiler_fails_without_one(
    compiler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTBRIDGE_COMPILE", "required")
    with pytest.raises(RuntimeError, match="could not be compiled: no compiler"):
        compiler.compile_as_told()


def test_a_build_without_compiled_modules_removes_them(
    compiler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTBRIDGE_COMPILE", "no")
    assert not compiler.compile_as_told()
    assert not list(compiler.ROOT.rglob(f"*{compiler.SUFFIX}"))


def test_what_is_newer_than_its_source_is_not_compiled_again(compiler: Any) -> None:
    later = time.time() + 60
    for module in compiler.MODULES:
        os.utime(compiler.extension(module), (later, later))
    assert compiler.compile_as_told()


def test_a_wish_that_is_none_is_named(compiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTBRIDGE_COMPILE", "maybe")
    with pytest.raises(RuntimeError, match="auto, required or no, not 'maybe'"):
        compiler.compile_as_told()
