"""The public names: each package lists all of them, and documents and examples use no others."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

PUBLIC = (
    "bridge",
    "bridge.dialects",
    "bridge.gateway",
    "bridge.idempotency",
    "bridge.ocpp",
    "bridge.testing",
    "bridge.testing.conformance",
    "bridge.testing.rabbitmq",
    "bridge.vendors",
)
"""Packages that users import from."""

FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documents() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield from (ROOT / "docs").rglob("*.md")


def programs() -> Iterator[tuple[str, str]]:
    """Where each piece of Python stands that shows users how something is done, and its text."""
    for path in (ROOT / "examples").rglob("*.py"):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in documents():
        for number, block in enumerate(FENCE.findall(path.read_text(encoding="utf-8")), 1):
            yield f"{path.relative_to(ROOT)}, block {number}", block


def imported(program: str) -> Iterator[tuple[str, str]]:
    """Package and name of each import from bridge."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "bridge":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "bridge":
                    yield alias.name, ""


@pytest.mark.parametrize("package", PUBLIC)
def test_a_public_package_lists_all_and_only_what_is_public(package: str) -> None:
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None, name
    there = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    ours = {
        name for name in there if getattr(vars(module)[name], "__module__", "").startswith("bridge")
    }
    assert ours <= set(module.__all__)


@pytest.mark.parametrize(("where", "program"), list(programs()), ids=lambda text: text[:40])
def test_documents_and_examples_import_public_names_alone(where: str, program: str) -> None:
    for package, name in imported(program):
        assert package in PUBLIC, f"{where} imports from {package}"
        assert not name or name in importlib.import_module(package).__all__, f"{package}.{name}"


def test_there_are_programs_to_look_at() -> None:
    found = {(package, name) for _, program in programs() for package, name in imported(program)}
    assert {("bridge", "Router"), ("bridge", "RetryPolicy"), ("bridge.testing", "ask")} <= found


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    bridge = importlib.import_module("bridge")
    with pytest.raises(AttributeError, match="module 'bridge' has no attribute 'Nobody'"):
        _ = bridge.Nobody
