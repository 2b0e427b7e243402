"""Who may import whom: each module only what stands below it, and nobody but the broker's package the AMQP libraries."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "bridge"

AMQP_LIBRARIES = {"aio_pika", "aiormq", "pamqp"}
MAY_IMPORT_AMQP = ("bridge.broker", "bridge.demo")

LAYERS = (
    ("bridge.layout", "bridge.sources"),
    ("bridge.ocpp", "bridge.transport", "bridge.counts", "bridge.logs", "bridge.processes", "bridge.private_broker"),
    ("bridge.request", "bridge.retry"),
    ("bridge.outcome",),
    ("bridge.handler",),
    ("bridge.routing",),
    ("bridge.dispatch", "bridge.contract", "bridge.store"),
    ("bridge.dialects", "bridge.redis_store"),
    ("bridge.idempotency", "bridge.dead"),
    ("bridge.intake", "bridge.waiting", "bridge.testing"),
    ("bridge.shared_queue",),
    ("bridge.worker", "bridge.broker"),
    ("bridge.requester",),
    ("bridge.client", "bridge.gateway"),
    ("bridge.demo",),
    ("bridge.command",),
    ("bridge.dead_cli", "bridge.gateway_cli"),
    ("bridge.cli",),
    ("bridge.__main__",),
)
"""From the bottom up. What stands in one line does not know its neighbours."""

WITHIN = {
    "bridge.broker": (
        "octets",
        "frames",
        "delivery",
        "lane",
        "bindings",
        "topology",
        "connection",
        "session",
        "rabbit",
        "dead_letters",
    ),
    "bridge.dialects": ("native", "shared", "web_ocpp", "citrineos", "letters"),
    "bridge.gateway": (
        *("turns", "handlers", "stations", "link"),
        *("actions", "local_answers", "conversation", "connection"),
        *("handshake", "passwords", "server"),
    ),
}
"""The modules of a package, from the bottom up."""


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


def layer(module: str) -> int | None:
    """The number of the layer that a module belongs to, itself or by its package."""
    for number, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return number
    return None


def package(module: str) -> str:
    return ".".join(module.split(".")[:2])


MODULES = dict(modules())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_brokers_package_imports_the_amqp_libraries(module: str) -> None:
    amqp = {name for name in imports(MODULES[module]) if name.split(".")[0] in AMQP_LIBRARIES}
    assert not amqp or module.startswith(MAY_IMPORT_AMQP)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"bridge"}))
def test_no_module_imports_upward(module: str) -> None:
    own = layer(module)
    assert own is not None, f"{module} has no place in the table of layers"
    for name in imports(MODULES[module]):
        if name != "bridge" and name.split(".")[0] == "bridge" and package(name) != package(module):
            other = layer(name)
            assert other is not None, f"{name} has no place in the table of layers"
            assert other < own, f"{module} imports {name}"


@pytest.mark.parametrize(("name", "order"), WITHIN.items())
def test_no_module_of_a_package_imports_upward(name: str, order: tuple[str, ...]) -> None:
    found = {module.removeprefix(f"{name}.") for module in MODULES if module.startswith(f"{name}.")}
    assert found == set(order)
    for number, module in enumerate(order):
        higher = {f"{name}.{other}" for other in order[number:]}
        assert not imports(MODULES[f"{name}.{module}"]) & higher


def test_what_a_user_imports_by_name_stands_at_the_top_of_the_handlers_side() -> None:
    """`import bridge` must stay light: it is what every module with handlers does."""
    highest = layer("bridge.routing")
    assert highest is not None
    runtime = imports(MODULES["bridge"]) - {"typing", "bridge.client"}
    assert {name for name in runtime if (layer(name) or 0) > highest} == set()


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
        "bridge.dispatch",
        "bridge.worker",
        "bridge.testing",
        "bridge.contract",
        "bridge.transport",
        "bridge.dialects",
        "bridge.shared_queue",
    ],
)
def test_what_knows_no_broker_is_imported_without_the_amqp_libraries(module: str) -> None:
    program = WITHOUT_AMQP.format(libraries=AMQP_LIBRARIES, module=module)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent, timeout=60)


def test_the_import_blocker_blocks() -> None:
    program = WITHOUT_AMQP.format(libraries=AMQP_LIBRARIES, module="bridge.client")
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=PACKAGE.parent, timeout=60, capture_output=True, text=True
    )
    assert ended.returncode != 0
    assert "is not installed" in ended.stderr
