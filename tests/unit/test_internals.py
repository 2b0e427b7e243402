"""docs/internals.md is true: every name in it exists, and the walk stays short."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bridge"
TEXT = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")

FILES_OF_THE_WALK = 14
"""A message's way that needs more of them cannot be kept in mind."""


def names(section: str) -> list[str]:
    """What stands between backquotes, outside blocks of code."""
    prose = re.sub(r"^```.*?^```", "", section, flags=re.MULTILINE | re.DOTALL)
    return sorted(set(re.findall(r"`([^`\n]+)`", prose)))


def is_path(name: str) -> bool:
    return "/" in name or name.endswith((".py", ".md", ".pxd"))


def definitions() -> dict[str, set[str]]:
    """Class or module → the names defined in it, those of its bases that are ours included."""
    found: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = found.setdefault(path.stem, set())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                module.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                module.add(node.target.id)
            elif isinstance(node, ast.Assign):
                module |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            if isinstance(node, ast.ClassDef):
                members = found.setdefault(node.name, set())
                bases.setdefault(node.name, []).extend(map(ast.unparse, node.bases))
                for inner in ast.walk(node):
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                        members.add(inner.name)
                    elif isinstance(inner, ast.Attribute):
                        members.add(inner.attr)
                    elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                        members.add(inner.target.id)
    for name, above in bases.items():
        for base in above:
            found[name] |= found.get(base, set())
    return found


DEFINED = definitions()
EVERYWHERE = set().union(*DEFINED.values()) | DEFINED.keys()


@pytest.mark.parametrize("name", names(TEXT))
def test_every_name_exists(name: str) -> None:
    if is_path(name):
        assert any((folder / name).exists() for folder in (PACKAGE, ROOT, ROOT / "docs"))
        return
    if name.startswith(("DTBRIDGE_", "datatransfer", "make ", "python -m ")):
        return  # names of the environment, the broker and the command line
    *owners, last = name.removesuffix("()").split(".")
    if owners and owners[0] == "bridge":
        assert (ROOT / "/".join([*owners, last])).exists() or (
            ROOT / "/".join([*owners, f"{last}.py"])
        ).exists()
    elif owners:
        assert last in DEFINED[owners[-1]], f"{owners[-1]} has no {last}"
    else:
        assert last in EVERYWHERE or (PACKAGE / last).exists()


def test_the_walk_goes_through_few_files() -> None:
    walk = TEXT.partition("\n## ")[0]
    files = [name for name in names(walk) if name.endswith(".py")]
    assert len(files) <= FILES_OF_THE_WALK


def test_the_walk_names_what_it_walks_through() -> None:
    assert "`rabbitmq/consuming.py`" in TEXT
    assert "`worker/dispatch.py`" in TEXT
