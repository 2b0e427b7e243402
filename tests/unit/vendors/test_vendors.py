"""The modules of bridge.vendors as a whole."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import bridge.vendors
from bridge.demo.workshop import routers
from bridge.vendors.catalogue import packs

MODULES = [
    module.name
    for module in pkgutil.iter_modules(bridge.vendors.__path__)
    if module.name not in {"catalogue", "pack"}
]


def imported(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_a_users_module_would(name: str) -> None:
    """Of the project, only its public package, and other packs."""
    path = Path(str(importlib.import_module(f"bridge.vendors.{name}").__file__))
    names = imported(path.read_text(encoding="utf-8"))
    ours = {name for name in names if name.split(".")[0] == "bridge"}
    assert all(name == "bridge" or name.startswith("bridge.vendors.") for name in ours)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_names_its_vendor_and_its_source(name: str) -> None:
    module = importlib.import_module(f"bridge.vendors.{name}")
    assert module.VENDOR_ID
    assert re.search(r"^Sources?: |Source: ", str(module.__doc__), re.MULTILINE)
    assert f"\n{name} " in str(bridge.vendors.__doc__)


def test_the_demo_has_a_router_for_every_vendor_whose_stations_ask() -> None:
    handled = {router.vendor_id for router in routers}
    assert {pack.vendor_id for pack in packs() if pack.from_station} < handled
