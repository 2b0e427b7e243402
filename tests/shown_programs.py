"""Python that documents show, run as far as an import runs it.

A block that begins with ``# folder/name.py`` is that file, and the blocks after it can import it;
all others of a page are one module, in their order. What a block needs and its page does not show,
stands in a comment before it: ``<!-- needs: acme = Router("com.acme") -->``. Libraries that nobody
needs for the tests are stood in for, and no event loop is begun.
"""

import asyncio
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest.mock import MagicMock

import pytest

from tests.documents import ROOT, Block

STOOD_IN_FOR: Final = frozenset(
    {"asyncpg", "celery", "fastapi", "httpx", "pika", "psycopg", "psycopg_pool"}
)
"""Libraries that programs of the documents use. One that is installed is itself."""

SETTINGS: Final = {
    "AMQP_URL": "amqp://localhost",
    "DATABASE_URL": "postgresql:///acme",
    "TARIFFS_URL": "https://tariffs.example",
}
"""Of the environment."""

RUFF: Final = ("--select", "F821,F822,F823", "--output-format", "concise")
"""Names that are not known."""

_FILE: Final = re.compile(r"# ([\w/]+\.py)\n")


class _StandIn(ModuleType):
    """A library whose every name is something, and whose errors are errors."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        is_error = re.search("(Error|Timeout|Exception)$", name)
        value = type(name, (Exception,), {}) if is_error else MagicMock(name=name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked last: for what is not installed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        known = name.partition(".")[0] in STOOD_IN_FOR
        return importlib.util.spec_from_loader(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """Where programs are run: files of a page are found in `folder`."""
    before = set(sys.modules)
    finder = _Finder()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(folder))
        patch.setattr(sys, "meta_path", [*sys.meta_path, finder])
        patch.setattr(sys, "argv", ["program.py", "amqp://localhost", "9000"])
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setattr(asyncio, "run", _begin)
        yield
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        file = getattr(module, "__file__", None) or ""
        if isinstance(module, _StandIn) or file.startswith(str(folder)):
            del sys.modules[name]


def _begin(coroutine: Coroutine[Any, Any, Any], **_: Any) -> str:
    """In place of asyncio.run: what it is given could be run, and is not."""
    assert asyncio.iscoroutine(coroutine)
    coroutine.close()
    return ""


def _module(name: str, **values: Any) -> None:
    """For a note: a module that a program imports, and the page does not show."""
    module = sys.modules[name] = _StandIn(name)
    vars(module).update(values)


def run(blocks: Sequence[Block], folder: Path) -> dict[str, Any]:
    """Run the Python of a page; the names of its own module. Raises what that raises."""
    names: dict[str, Any] = {"__name__": "page", "module": _module}
    with surroundings(folder):
        for block in blocks:
            exec(compile(needs(block), str(block), "exec"), names)
            if file := _FILE.match(block.text):
                _write(folder / file[1], block.text)
                _load(file[1], folder)
            else:
                exec(compile(block.text, str(block), "exec"), names)
    return names


def needs(block: Block) -> str:
    """What the note before a block says that it needs, in Python: ``<!-- needs: … -->``."""
    found = re.fullmatch(r"needs:\s+(.*)", block.note, re.DOTALL)
    return found[1] if found else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in path.parents:
        if (folder / "__init__.py").exists() or folder.name == "my_vendors":
            (folder / "__init__.py").touch()
    path.write_text(text, encoding="utf-8")


def _load(file: str, folder: Path) -> None:
    """Import what has just been written."""
    name = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    if name.startswith("tests."):  # a package of that name is there, and is ours
        spec = importlib.util.spec_from_file_location(f"page_{name}", folder / file)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    else:
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        importlib.import_module(name)


def unknown_names(blocks: Sequence[Block]) -> str:
    """What ruff finds: names that no block before has."""
    pieces: list[str] = []
    files: list[str] = []
    for block in blocks:
        is_file = _FILE.match(block.text)
        if is_file:
            files.append(block.text)
        else:
            pieces.append(f"{needs(block)}\n{block.text}")
    found = ""
    for text in ["\n".join(pieces), *files]:
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", *RUFF, "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=30,
        )
        found += checked.stdout + checked.stderr
    return found
