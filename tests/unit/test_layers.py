"""Who may import whom: each module only what stands below it; the AMQP libraries, one package."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "bridge"

AMQP_LIBRARIES = {"aio_pika", "aiormq", "pamqp"}
MAY_IMPORT_AMQP = ("bridge.rabbitmq", "bridge.demo")

TABLE = (PACKAGE.parent / "docs" / "internals.md").read_text(encoding="utf-8")

LAYERS = [
    re.findall(r"`(\w+)`", row)
    for row in re.findall(r"^\| (`[^|]+) \|", TABLE.partition("\n## The layers")[2], re.MULTILINE)
]
"""The folders of bridge/, and the modules beside them, from the bottom up: the table of layers in
docs/internals.md. What stands in one line does not know its neighbours."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(path: Path) -> set[str]:
    """Every module that is imported anywhere in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found


def room(module: str) -> str:
    """The folder below bridge/ that a module stands in, or its own name."""
    return module.split(".")[1]


def layer(module: str) -> int | None:
    """The number of the layer that a module belongs to."""
    return next((number for number, rooms in enumerate(LAYERS) if room(module) in rooms), None)


MODULES = dict(modules())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_brokers_package_imports_the_amqp_libraries(module: str) -> None:
    amqp = {name for name in imports(MODULES[module]) if name.split(".")[0] in AMQP_LIBRARIES}
    assert not amqp or module.startswith(MAY_IMPORT_AMQP)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"bridge"}))
def test_no_module_imports_upward(module: str) -> None:
    own = layer(module)
    assert own is not None, f"{room(module)} has no place in the table of layers"
    for name in imports(MODULES[module]):
        if name.startswith("bridge.") and room(name) != room(module):
            other = layer(name)
            assert other is not None, f"{room(name)} has no place in the table of layers"
            assert other < own, f"{module} imports {name}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    sorter = TopologicalSorter(
        {module: imports(path) & MODULES.keys() for module, path in MODULES.items()}
    )
    sorter.prepare()


def test_importing_bridge_brings_nothing_from_above_the_handlers() -> None:
    """`import bridge` must stay light: it is what every module with handlers does."""
    program = "import sys, bridge; print(*(name for name in sys.modules if 'bridge.' in name))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = [name for name in ended.stdout.split() if name.startswith("bridge.")]
    highest = layer("bridge.routing.router")
    assert highest is not None
    assert "bridge.routing.router" in loaded
    assert [name for name in loaded if (layer(name) or 0) > highest] == []


WITHOUT_AMQP = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {libraries}:
            raise ModuleNotFoundError(f"{{name}} is not installed")

sys.meta_path.insert(0, Blocker())
import {module}
"""


@pytest.mark.parametrize(
    "module",
    [
        "bridge",
        "bridge.worker.dispatch",
        "bridge.worker.worker",
        "bridge.testing.memory_broker",
        "bridge.dialects.dialect",
        "bridge.transport",
        "bridge.dialects",
        "bridge.worker.shared_queue",
    ],
)
def test_what_knows_no_broker_is_imported_without_the_amqp_libraries(module: str) -> None:
    program = WITHOUT_AMQP.format(libraries=AMQP_LIBRARIES, module=module)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent, timeout=60)


def test_the_import_blocker_blocks() -> None:
    program = WITHOUT_AMQP.format(libraries=AMQP_LIBRARIES, module="bridge.client.client")
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=PACKAGE.parent,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert ended.returncode != 0
    assert "is not installed" in ended.stderr


# ---- the size of things ----


def test_the_top_folder_holds_rooms_and_few_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 5


def test_no_file_is_too_long_to_read() -> None:
    """But tables of data."""
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in MODULES.values()}
    long = {path.relative_to(PACKAGE).as_posix() for path, lines in lengths.items() if lines > 500}
    assert long <= {"demo/corpus.py"}


def test_exceptions_from_the_linter_are_few_and_have_their_reasons() -> None:
    lines = [line for path in MODULES.values() for line in path.read_text("utf-8").splitlines()]
    exceptions = [line for line in lines if re.search(r"# noqa|# type: ignore", line)]
    assert len(exceptions) <= 2 * len(lines) / 1000
    reasonless = [
        line
        for line in exceptions
        if not re.search(r"(noqa: [A-Z0-9, ]+|type: ignore\[[a-z-]+\]) +(- |# )\S", line)
    ]
    assert len(reasonless) <= 1  # where the reason stands in the next line
