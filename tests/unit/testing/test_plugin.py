"""The plugin for pytest, in runs of pytest of its own."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

MODULE = """
import pytest
from bridge import Call, Router
from bridge.testing import TestBridge, assert_accepted

router = Router("com.acme")

@router.on("Double")
async def double(call: Call, data: int) -> int:
    return 2 * data

@router.on("Fail")
async def fail(call: Call) -> None:
    raise KeyError("the tariff")
"""

BY_MARK = f"""{MODULE}
@pytest.mark.asyncio
@pytest.mark.bridge(router, timeout=7.0)
async def test_double(bridge: TestBridge) -> None:
    assert_accepted(await bridge.data_transfer("CP1", "com.acme", "Double", 4), 8)
"""

BY_FIXTURE = f"""{MODULE}
@pytest.fixture
def bridge_routers():
    return [router]

async def test_double(bridge: TestBridge) -> None:
    assert_accepted(await bridge.data_transfer("CP1", "com.acme", "Double", 4), 8)
"""

BY_NOBODY = f"""{MODULE}
@pytest.mark.asyncio
async def test_double(bridge: TestBridge) -> None:
    raise AssertionError("it was run")
"""

FAILING = f"""{MODULE}
@pytest.mark.asyncio
@pytest.mark.bridge(router)
async def test_fail(bridge: TestBridge) -> None:
    await bridge.data_transfer("CP1", "com.acme", "Fail")

@pytest.mark.asyncio
@pytest.mark.bridge(router)
async def test_dead(bridge: TestBridge) -> None:
    await bridge.data_transfer("CP1", "com.acme", "Double", 4)
    bridge.assert_dead_letter(reason="failed")
"""

ANYIO = f"""{MODULE}
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.bridge(router)
async def test_double(bridge: TestBridge) -> None:
    assert_accepted(await bridge.data_transfer("CP1", "com.acme", "Double", 4), 8)
"""


def run(folder: Path, program: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest on a module, with no plugins but ours and those that are named."""
    (folder / "test_it.py").write_text(program, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    if "asyncio" in options:
        options = (*options, "-o", "asyncio_default_fixture_loop_scope=function")
    plugins = ("-p", "bridge.testing.plugin", "-p", "no:cacheprovider", *options)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--strict-markers", *plugins, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (BY_MARK, ("-p", "asyncio")),
        (BY_FIXTURE, ("-p", "asyncio", "-o", "asyncio_mode=auto")),
        (ANYIO, ("-p", "anyio")),
    ],
    ids=["by mark", "by fixture", "anyio"],
)
def test_the_fixture_bridge_runs_the_routers_of_the_test(
    tmp_path: Path, program: str, options: tuple[str, ...]
) -> None:
    ended = run(tmp_path, program, *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout


def test_a_test_that_names_no_router_is_told_how(tmp_path: Path) -> None:
    ended = run(tmp_path, BY_NOBODY, "-p", "asyncio")
    assert ended.returncode == 1
    assert "@pytest.mark.bridge(router), or define a fixture `bridge_routers`" in ended.stdout
    assert "1 error" in ended.stdout


def test_without_an_async_plugin_the_fixture_says_what_to_install(tmp_path: Path) -> None:
    ended = run(tmp_path, "def test_it(bridge): ...")
    assert ended.returncode == 1
    assert "pip install pytest-asyncio" in ended.stdout


def test_what_a_handler_raised_stands_in_the_report_with_its_line(tmp_path: Path) -> None:
    ended = run(tmp_path, FAILING, "-p", "asyncio")
    assert ended.returncode == 1
    assert 'raise KeyError("the tariff")' in ended.stdout
    assert re.search(r"^E +KeyError: 'the tariff'$", ended.stdout, re.MULTILINE)
    assert "CP1 com.acme/Fail, try 1: failed (KeyError: 'the tariff')" in ended.stdout
    assert "expected one dead letter with reason 'failed': none" in ended.stdout
    assert 'CP1 com.acme/Double, try 1: answered {"status":"Accepted","data":8}' in ended.stdout


def test_the_plugin_imports_nothing_heavy() -> None:
    program = (
        "import sys, bridge; before = set(sys.modules); import bridge.testing.plugin;"
        "print(*set(sys.modules) - before)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ours = {name for name in ended.stdout.split() if name.startswith(("bridge", "aio", "pamqp"))}
    assert ours == {"bridge.testing", "bridge.testing.plugin"}


def test_pytest_finds_the_plugin_where_the_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (module,) = project["entry-points"]["pytest11"].values()
    assert module == "bridge.testing.plugin", "which the tests above have run"
    assert importlib.util.find_spec(module) is not None
