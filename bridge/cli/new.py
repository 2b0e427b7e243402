"""``dtbridge new``: a project to begin with, which passes its own tests and type checks."""

import importlib.util
import keyword
import re
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final

import typer

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.output import say

_TEMPLATE: Final = "template"
"""The folder beside this module. Its files end in ``.txt``, so that no tool takes them for code of
this package, and what begins with a dot begins with ``dot-``."""
_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
"""What is a distribution's name as well as, with underscores, a module's."""
_VENDOR: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._+-]{0,49}")
"""What needs no quotation marks in Python, a shell and Markdown."""
_TAKEN: Final = sys.stdlib_module_names | {"bridge", "tests", "msgspec", "pytest", "mypy", "ruff"}
"""What a project imports or runs, whether it is installed here or not."""


def _project_name(name: str) -> str:
    """Checks a project's name. Raises BadParameter for one that cannot be a package's."""
    if len(name) > 50 or not _NAME.fullmatch(name):
        raise typer.BadParameter(
            "expected at most 50 letters, digits and single - or _ in between, such as my-vendors"
        )
    package = _package(name)
    if keyword.iskeyword(package) or package in _TAKEN or _is_installed(package):
        raise typer.BadParameter(f"a package {package!r} would hide another one: choose a new name")
    return name


def _is_installed(package: str) -> bool:
    """Whether there is a package of that name, and not just a folder here."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else [*(spec.submodule_search_locations or ())]
    return not all(Path(each).is_relative_to(Path.cwd()) for each in places)


def _vendor_id(vendor: str) -> str:
    """Checks a vendorId. Raises BadParameter for one that is better written by hand."""
    if not _VENDOR.fullmatch(vendor):
        raise typer.BadParameter(
            "expected at most 50 letters, digits and . _ + -; another one is to be written into "
            "the project by hand"
        )
    return vendor


def _package(name: str) -> str:
    return name.lower().replace("-", "_")


def new(
    name: Annotated[
        str,
        typer.Argument(
            envvar="DTBRIDGE_NEW_NAME",
            metavar="NAME",
            callback=_project_name,
            help="The project: a new folder of that name.",
        ),
    ],
    vendor: Annotated[
        str,
        typer.Option(
            envvar="DTBRIDGE_NEW_VENDOR",
            callback=_vendor_id,
            help="The vendorId of its first router.",
        ),
    ] = "com.example",
) -> None:
    """Write a project: handlers, tests, compose.yaml, Dockerfile, CI, and a README that goes on."""
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(f"{name} is there already: choose another name, or remove it", EXIT_USAGE)
    try:
        for path, text in project(name, vendor).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{error.filename or folder} cannot be written: {error.strerror or error}")
    say(
        f"{name}: a project that answers for the vendor {vendor}. Next:\n\n"
        f"  cd {name}\n"
        "  pip install -e '.[dev]'    # in a virtual environment\n"
        "  pytest                     # its tests; no broker needed\n"
        "  docker compose up -d rabbitmq\n"
        "  dtbridge run --reload      # the README says how to ask it something"
    )


def project(name: str, vendor: str) -> dict[str, str]:
    """The files of a project, by their paths. Names and vendorId have been checked."""
    filled = {"NAME": name, "PACKAGE": _package(name), "VENDOR": vendor}
    return {
        _filled(path, filled): _filled(text, filled)
        for path, text in _texts(files("bridge.cli") / _TEMPLATE)
    }


def _texts(folder: Traversable, path: str = "") -> list[tuple[str, str]]:
    found = []
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        name = each.name.replace("dot-", ".", 1) if each.name.startswith("dot-") else each.name
        if each.is_dir():
            found += _texts(each, f"{path}{name}/")
        elif name.endswith(".txt"):
            found.append((path + name.removesuffix(".txt"), each.read_text(encoding="utf-8")))
    return found


def _filled(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
