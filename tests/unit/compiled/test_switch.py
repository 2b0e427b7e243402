"""Which form of a module runs, and that a misfit costs speed and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hatch_build import MODULES, SUFFIX, extension

ROOT = Path(__file__).parents[3]
TYPES = ROOT / "bridge" / "compiled"
ANSWERED = {"station": "CP1", "data": {"a": 1}}
FRAME = (
    "0100010000000c003c0028000000036b657900ce"
    "02000100000010003c0000000000000000000400200174ce"
    "03000100000004626f6479ce"
)

needs_compiled = pytest.mark.skipif(  # where there has to be a compiler, installing fails without
    not all(extension(module).exists() for module in MODULES), reason="there is no C compiler here"
)


def run(*arguments: str, tree: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python that imports bridge from `tree`, and ends well."""
    environment = {"DTBRIDGE_PURE": "0", "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}"} | environment
    ended = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def answering(
    *arguments: str, tree: Path = ROOT, **environment: str
) -> tuple[dict[str, str], list[str]]:
    """Which form of each module runs, and the warnings, when all of them work as they should."""
    ended = run("-m", "tests.unit.compiled.answering", *arguments, tree=tree, **environment)
    said: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    assert said["answer"] == ANSWERED
    assert said["frame"] == FRAME
    for name, (form, reason, file) in said["running"].items():
        assert file.endswith(".py" if form == "source" else SUFFIX), name
        assert bool(reason) == (form == "source"), name
    warned = re.findall(r"^.*Warning: (.*)$", ended.stderr, re.MULTILINE)
    return {name: form for name, (form, _, _) in said["running"].items()}, warned


def sources(forms: Mapping[str, str]) -> set[str]:
    return {name for name, form in forms.items() if form == "source"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The package in a folder of its own, where compiled modules can be replaced."""
    shutil.copytree(ROOT / "bridge", tmp_path / "bridge", copy_function=os.symlink)
    return tmp_path


def replace(tree: Path, module: str, file: Path | bytes) -> None:
    """Another compiled module in the place of `module`."""
    place = tree / extension(module).relative_to(ROOT)
    place.unlink()
    place.write_bytes(file if isinstance(file, bytes) else file.read_bytes())


# --- what is asked for ---


@needs_compiled
def test_the_compiled_modules_run_where_they_are() -> None:
    forms, warned = answering(*MODULES)
    assert forms == dict.fromkeys(MODULES, "compiled")
    assert not warned


def test_the_sources_run_where_the_environment_asks_for_them() -> None:
    forms, warned = answering(*MODULES, DTBRIDGE_PURE="1")
    assert set(forms.values()) <= {"source"}
    assert not warned


def test_the_sources_run_however_the_path_to_them_is_spelled() -> None:
    program = """
        import sys
        sys.path.insert(0, "./bridge/..")
        import bridge
        assert "/bridge/.." in bridge.__path__[0]
        from bridge.routing import router
        assert router.__file__.endswith(".py")
    """
    run("-c", textwrap.dedent(program), PYTHONPATH="", DTBRIDGE_PURE="1")


@needs_compiled
def test_a_module_that_is_not_imported_does_not_run() -> None:
    program = "import bridge; from bridge.compiled.switch import running; print(*running())"
    names = ["bridge.routing.router", "bridge.telemetry.measures"]
    assert run("-c", program).stdout.split() == names


# --- what does not fit ---


@needs_compiled
@pytest.mark.parametrize("order", [MODULES, MODULES[::-1]], ids=["forward", "backward"])
@pytest.mark.parametrize("msgspec", ["Moved", "Reordered"])
def test_a_msgspec_whose_slots_lie_otherwise_has_the_sources_run(
    msgspec: str, order: tuple[str, ...]
) -> None:
    forms, [warned] = answering("--msgspec", msgspec, *order)
    assert "runs as plain Python, slower: " in warned
    assert "Install datatransfer-bridge again" in warned
    assert sources(forms) >= {
        "bridge.dialects.native",
        "bridge.idempotency.guard",
        "bridge.rabbitmq.frames.reading",
        "bridge.rabbitmq.frames.writing",
        "bridge.worker.dispatch",
        "bridge.worker.intake",
    }


def cimported(module: str) -> set[str]:
    """The compiled modules that `module` is compiled against."""
    file = TYPES.joinpath(*module.split(".")[1:]).with_suffix(".pxd")
    found = set()
    for package, names in re.findall(
        r"^from (bridge[\w.]+) cimport (.+)$",
        file.read_text() if file.exists() else "",
        re.MULTILINE,
    ):
        found |= {package, *(f"{package}.{name.strip()}" for name in names.split(","))}
    return found & set(MODULES)


def compiled_against(module: str) -> set[str]:
    """It, and all that fall back with it."""
    found = {module}
    while more := {other for other in MODULES if cimported(other) & found} - found:
        found |= more
    return found


@needs_compiled
@pytest.mark.parametrize("module", ["bridge.rabbitmq.outbox", "bridge.rabbitmq.frames.writing"])
def test_a_file_that_cannot_be_loaded_takes_those_along_that_are_compiled_against_it(
    tree: Path, module: str
) -> None:
    replace(tree, module, b"no shared object")
    forms, [warned] = answering(*MODULES, tree=tree)
    assert sources(forms) == compiled_against(module) > {module}
    assert warned.startswith(f"{module} runs as plain Python, slower: ImportError: ")


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled bridge.worker.pace whose initialisation leaves a name behind and fails."""
    folder = tmp_path_factory.mktemp("failing")
    (folder / "pace.c").write_text("""
        #include <Python.h>

        static int initialise(PyObject *module) {
            PyModule_AddStringConstant(module, "left_behind", "by C");
            PyErr_SetString(PyExc_ValueError, "it does not fit");
            return -1;
        }

        static PyModuleDef_Slot slots[] = {{Py_mod_exec, initialise}, {0, NULL}};
        static struct PyModuleDef def = {
            PyModuleDef_HEAD_INIT, .m_name = "pace", .m_slots = slots
        };

        PyMODINIT_FUNC PyInit_pace(void) { return PyModuleDef_Init(&def); }
    """)
    include = sysconfig.get_path("include")
    compiler = str(sysconfig.get_config_var("CC")).split()
    subprocess.run(
        [*compiler, "-shared", "-fPIC", f"-I{include}", "pace.c", "-o", "pace.so"],
        check=True,
        cwd=folder,
        timeout=60,
    )
    return folder / "pace.so"


@needs_compiled
def test_an_initialisation_that_fails_leaves_nothing_behind(tree: Path, failing: Path) -> None:
    replace(tree, "bridge.worker.pace", failing)
    program = """
        import importlib, inspect, sys
        from bridge.worker import pace

        spec = pace.__spec__
        assert pace is sys.modules["bridge.worker.pace"]
        assert not hasattr(pace, "left_behind")
        assert pace.__file__ == spec.origin == inspect.getsourcefile(pace.Pace)
        assert pace.__file__.endswith("pace.py")
        assert pace.__cached__ == spec.cached == importlib.util.cache_from_source(pace.__file__)
        assert pace.__loader__ is spec.loader
        assert (pace.__name__, pace.__package__) == ("bridge.worker.pace", "bridge.worker")
        assert pace.__doc__
        assert "class Pace" in inspect.getsource(pace)
        importlib.reload(pace)
        assert pace.Pace().__class__.__module__ == "bridge.worker.pace"
    """
    ended = run("-c", textwrap.dedent(program), tree=tree)
    assert ended.stderr.count("RuntimeWarning: bridge.worker.pace runs as plain Python") == 1
    forms, [warned] = answering(*MODULES, tree=tree)
    assert sources(forms) == compiled_against("bridge.worker.pace")
    assert "slower: ValueError: it does not fit. " in warned


@needs_compiled
def test_a_warning_that_is_made_an_error_is_raised_once(tree: Path, failing: Path) -> None:
    replace(tree, "bridge.worker.pace", failing)
    program = """
        import warnings
        import bridge

        warnings.simplefilter("error")
        try:
            import bridge.worker.pace
        except RuntimeWarning:
            import bridge.worker.pace
        else:
            raise AssertionError("not raised")
    """
    run("-c", textwrap.dedent(program), tree=tree)


@needs_compiled
def test_a_library_that_is_missing_is_missing_for_both_forms() -> None:
    program = """
        import sys, warnings
        from bridge.compiled.switch import running

        warnings.simplefilter("error")
        sys.modules["aiormq"] = None
        try:
            import bridge.rabbitmq.socket
        except ModuleNotFoundError as error:
            assert error.name == "aiormq", error
        else:
            raise AssertionError("not raised")
        assert "bridge.rabbitmq.socket" not in running()
    """
    run("-c", textwrap.dedent(program))


@needs_compiled
def test_the_command_and_spawned_processes_run_beside_a_misfit(tree: Path) -> None:
    replace(tree, "bridge.worker.dispatch", b"no shared object")
    command = run("-m", "bridge", "--help", tree=tree)
    assert "Usage: dtbridge" in command.stdout
    assert command.stderr.count("RuntimeWarning: ") == 1
    (tree / "spawns.py").write_text(
        textwrap.dedent("""
            import multiprocessing
            from bridge.compiled.switch import running

            def form():
                import bridge.worker.dispatch
                return running()["bridge.worker.dispatch"].form

            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.apply(form))
        """)
    )
    assert run("spawns.py", tree=tree).stdout == "source\n"


# --- why a mixture is sound ---


def classes() -> Iterator[tuple[str, str, list[str]]]:
    """Module, name and lines of each class that Cython compiles and that others may see."""
    for module in MODULES:
        file = TYPES.joinpath(*module.split(".")[1:]).with_suffix(".pxd")
        text = file.read_text() if file.exists() else ""
        for name, body in re.findall(
            r"^cdef class ([A-Za-z]\w*):\n((?:    .*\n|\n)*)", text, re.MULTILINE
        ):
            yield module, name, [line.strip() for line in body.splitlines()]


@pytest.mark.parametrize(
    ("name", "lines"), [pytest.param(name, lines, id=name) for _, name, lines in classes()]
)
def test_a_compiled_class_shows_python_all_that_has_no_underscore(
    name: str, lines: list[str]
) -> None:
    """A source that runs beside it knows it only by that."""
    hidden = [line for line in lines if re.match(r"cdef (?!public|readonly)", line)]
    attributes = [line for line in hidden if "(" not in line]
    names = {
        re.findall(r"\w+", declared.partition("[")[0])[-1]  # an array has its size behind its name
        for line in attributes
        for declared in line.split(",")
    }
    methods = set(re.findall(r"(\w+)\(", "\n".join(hidden)))
    assert all(hidden_name.startswith("_") for hidden_name in names | methods), name


def test_a_class_that_others_are_compiled_against_cannot_be_taken_for_its_source() -> None:
    """A table of methods in C is what tells them apart where their sizes are the same."""
    texts = [file.read_text() for file in TYPES.rglob("*.pxd")]
    for module, name, lines in classes():
        wanted = re.compile(rf"^from {re.escape(module)} cimport .*\b{name}\b", re.MULTILINE)
        if any(wanted.search(text) for text in texts):
            assert any(line.startswith("cpdef ") for line in lines), name
