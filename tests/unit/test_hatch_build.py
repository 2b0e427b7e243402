"""What is compiled, when it is compiled again, and what is left when it cannot be."""

import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

import hatch_build
from hatch_build import MODULES, SUFFIX, compile_as_told, extension, outdated, source, stale

LATER = time.time() + 86_400  # after whatever the tests write, however long the suite takes


def types() -> Path:
    return hatch_build.ROOT / "bridge" / "compiled" / "worker" / "pace.pxd"


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every module is compiled, in a tree of its own, and newer than its source and the types."""
    monkeypatch.setattr(hatch_build, "ROOT", tmp_path)
    for name in MODULES:
        source(name).parent.mkdir(parents=True, exist_ok=True)
        source(name).write_text("")
        extension(name).write_text("compiled")
        os.utime(extension(name), (LATER, LATER))
    types().parent.mkdir(parents=True)
    types().write_text("")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no compiler")

    monkeypatch.setattr(hatch_build, "compile_in_place", fail)


def change(file: Path) -> None:
    os.utime(file, (LATER + 60, LATER + 60))


def left() -> list[Path]:
    return list(hatch_build.ROOT.rglob(f"*{SUFFIX}"))


def test_the_list_is_sorted_and_names_what_exists() -> None:
    assert list(MODULES) == sorted(set(MODULES))
    root = Path(hatch_build.__file__).parent
    assert all((root / source(name).relative_to(hatch_build.ROOT)).exists() for name in MODULES)


# --- when ---


def test_what_is_newer_than_its_source_is_not_compiled_again(no_compiler: None) -> None:
    assert outdated() == stale() == []
    assert compile_as_told()
    assert len(left()) == len(MODULES)


def test_a_change_to_a_source_makes_that_module_stale() -> None:
    change(source(MODULES[3]))
    assert outdated() == stale() == [MODULES[3]]


def test_a_change_to_a_type_makes_all_modules_stale() -> None:
    change(types())
    assert outdated() == stale() == list(MODULES)


def test_what_is_not_compiled_is_stale_and_cannot_run_in_place_of_its_source() -> None:
    extension(MODULES[3]).unlink()
    assert stale() == [MODULES[3]]
    assert outdated() == []


def test_what_is_no_longer_to_be_compiled_is_outdated_and_removed(no_compiler: None) -> None:
    extension("bridge.worker.former").write_text("compiled")
    assert outdated() == ["bridge.worker.former"]
    assert compile_as_told()
    assert len(left()) == len(MODULES)


# --- what is asked for ---


def test_without_a_compiler_nothing_older_is_left_to_run(
    no_compiler: None, capsys: pytest.CaptureFixture[str]
) -> None:
    change(types())
    assert not compile_as_told()
    assert not left()
    assert "runs as Python: OSError: no compiler" in capsys.readouterr().err


def test_a_build_that_requires_a_compiler_fails_without_one(
    no_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(types())
    monkeypatch.setenv("DTBRIDGE_COMPILE", "required")
    with pytest.raises(RuntimeError, match="could not be compiled: no compiler"):
        compile_as_told()
    assert not left()


def test_a_build_without_compiled_modules_removes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTBRIDGE_COMPILE", "no")
    assert not compile_as_told()
    assert not left()


def test_an_unknown_wish_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTBRIDGE_COMPILE", "maybe")
    with pytest.raises(RuntimeError, match="auto, required or no, not 'maybe'"):
        compile_as_told()


# --- what is built ---

PROJECT = Path(hatch_build.__file__).parent
IS_COMPILED = all((PROJECT / extension(name).relative_to(PROJECT)).exists() for name in MODULES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's tree, once more."""
    folder = tmp_path / "project"
    shutil.copytree(
        PROJECT / "bridge", folder / "bridge", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy2(PROJECT / name, folder / name)
    return folder


def built(project: Path, target: str, wish: str) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", "made"],
        check=True,
        capture_output=True,
        cwd=project,
        timeout=60,
        env=os.environ | {"DTBRIDGE_COMPILE": wish},
    )
    [file] = (project / "made").iterdir()
    return file


needs_compiled = pytest.mark.skipif(  # where there has to be a compiler, installing fails without
    not IS_COMPILED, reason="there is no C compiler here"
)


@needs_compiled
def test_a_module_is_translated_from_anywhere_and_by_its_own_tree(
    project: Path, tmp_path: Path
) -> None:
    """A build environment has the tools on its path, and perhaps another version of the project."""
    for other in ("__init__.py", "request.pxd", "compiled/fields.pxd", "idempotency/memory.pxd"):
        (tmp_path / "other" / "bridge" / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "other" / "bridge" / other).write_text("no types\n")
    program = """
        import sys
        from importlib.util import module_from_spec, spec_from_file_location
        from pathlib import Path

        sys.path[:] = [path for path in sys.path if not Path(path, "bridge").exists()]
        sys.path.insert(0, "other")
        spec = spec_from_file_location("hatch_build", sys.argv[1])
        hatch_build = module_from_spec(spec)
        spec.loader.exec_module(hatch_build)
        hatch_build.MODULES = ("bridge.idempotency.memory",)

        import setuptools.command.build_ext  # the C compiler finds its files where it is told to
        setuptools.command.build_ext.build_ext.run = lambda self: None
        hatch_build.compile_in_place()
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(project / "hatch_build.py")],
        check=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert [file.name for file in (project / "build").rglob("*.c")] == ["memory.c"]
    assert {file.name for file in tmp_path.iterdir()} == {"bridge", "other", "project"}


@needs_compiled
def test_a_wheel_has_the_compiled_modules_and_their_sources_and_no_types(project: Path) -> None:
    (project / "bridge" / "worker" / "former.cpython-39-x86_64-linux-gnu.so").write_text("")
    wheel = built(project, "wheel", "required")
    names = set(zipfile.ZipFile(wheel).namelist())
    of_each = {f"{name.replace('.', '/')}{end}" for name in MODULES for end in (".py", SUFFIX)}
    assert names >= of_each | {"bridge/compiled/switch.py", "bridge/compiled/fields.py"}
    assert sum(name.endswith(".so") for name in names) == len(MODULES)
    assert not any(name.endswith(".pxd") for name in names)
    assert "bridge/compiled/views.py" not in names
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert wheel.stem.split("-")[2:4] == [python, python]


def test_a_wheel_without_compiled_modules_is_one_for_every_python(project: Path) -> None:
    wheel = built(project, "wheel", "no")
    assert wheel.stem.endswith("-py3-none-any")
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(wheel).namelist())


def test_a_source_distribution_has_all_that_is_needed_to_compile(project: Path) -> None:
    sdist = built(project, "sdist", "no")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    types = {file.relative_to(PROJECT).as_posix() for file in (PROJECT / "bridge").rglob("*.pxd")}
    assert names >= types | {"hatch_build.py", "pyproject.toml", "bridge/compiled/views.py"}
    assert not any(name.endswith(".so") for name in names)
