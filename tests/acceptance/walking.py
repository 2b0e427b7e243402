"""A document's fenced blocks, and a shell in which a reader types them."""

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bridge import Router
from tests.integration.support import PATIENCE, ROOT, clean_environment

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.\w+)\n")


class Block(NamedTuple):
    """What stands between two fences."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that it is, if its first line names one."""
        found = _FILE.match(self.text)
        return None if found is None else found[1]

    @property
    def commands(self) -> list[str]:
        """The lines of a block for a shell, without those that are only a comment."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if shlex.split(line, comments=True)]


def blocks(page: str) -> Iterator[Block]:
    """Those of a page of ``docs``, in their order."""
    for language, text in _FENCED.findall((ROOT / "docs" / page).read_text()):
        yield Block(language, text)


class Shell:
    """Runs what a reader types, with the Python of these tests."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        path = f"{Path(sys.executable).parent}:{clean_environment()['PATH']}"
        self.environment = clean_environment(settings) | {"PATH": path, "PYTHONPATH": str(ROOT)}

    def write(self, block: Block) -> Path:
        """Save a block as the file that it names."""
        assert block.file is not None
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return path

    def run(self, command: str, *, exit_code: int = 0) -> str:
        """Run a line, and return what it prints. It must end with `exit_code`."""
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            return ""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=4 * PATIENCE,
        )
        assert done.returncode == exit_code, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


# ---- the code of a guide ----

Saved = Callable[[str], Path]
"""Saves the files that a guide names where Python finds them, and returns their folder."""


def load(name: str) -> Any:
    """A module that was saved."""
    return importlib.import_module(name)


def acme_of(guide: str, saved: Saved) -> Router:
    """The router of the vendor com.acme in a guide."""
    saved(guide)
    router: Router = load("my_vendors.acme").router
    return router
