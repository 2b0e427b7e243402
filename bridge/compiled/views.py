"""Writes the C views of the Structs: ``python -m bridge.compiled.views``.

Every message passes through the values in :data:`VIEWS`. The compiled modules read the fields of
these values where they lie in memory, and each view, a ``.pxd`` file that mirrors the module of its
class, says where that is. Run it after a change to one of the classes; with ``--check`` it writes
nothing, and exits with 1 if a view is not current. It is a tool for the source tree: a wheel has
neither this module nor the views.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent
COMMAND = "python -m bridge.compiled.views"

VIEWS = {
    "bridge.gateway.counts": ("LinkCounts",),
    "bridge.ocpp.data_transfer": ("DataTransferResponse",),
    "bridge.ocpp.request": ("RequestEnvelope",),
    "bridge.request.incoming": ("Request",),
    "bridge.request.outcome": ("Reply",),
    "bridge.routing.handler": ("Handler",),
    "bridge.telemetry.counts": ("WorkerCounts",),
    "bridge.transport": ("Delivery", "Properties", "Publishing", "Subscription"),
}
"""Module → its classes that the compiled modules read."""

HEADER = f"# Written by `{COMMAND}`, do not edit.\n"

TEXT = (
    HEADER
    + '''\
# The Structs of {module} as they lie in memory; fields.pxd checks that they do.

cdef extern from *:
    """
{structs}    """

{views}'''
)

STRUCT = """\
    typedef struct {{
        PyObject_HEAD
        {fields}
    }} dtbridge_{name};
"""

CLASS = """\
    ctypedef class {module}.{name} [object dtbridge_{name}, check_size error]:
        {fields}
"""


def view(module: str) -> str:
    """The text of the ``.pxd`` file for `module`."""
    classes = [(name, _fields(module, name)) for name in VIEWS[module]]
    structs = [
        STRUCT.format(name=name, fields=_lines("PyObject *{};", fields)) for name, fields in classes
    ]
    views = [
        CLASS.format(module=module, name=name, fields=_lines("cdef object {}", fields))
        for name, fields in classes
    ]
    return TEXT.format(module=module, structs="\n".join(structs), views="\n".join(views))


def _fields(module: str, name: str) -> list[str]:
    """As they lie in memory: fields are slots, and CPython sorts the slots of a class by name."""
    struct: type[msgspec.Struct] = getattr(importlib.import_module(module), name)
    return sorted(struct.__struct_fields__)


def _lines(form: str, fields: list[str]) -> str:
    return "\n        ".join(form.format(field) for field in fields)


def path(module: str, folder: Path) -> Path:
    """Where the view for `module` belongs."""
    return folder.joinpath(*module.split(".")[1:]).with_suffix(".pxd")


def outdated(folder: Path) -> Iterator[Path]:
    """The views that are missing, not as :func:`view` writes them, or no longer in the table."""
    for module in VIEWS:
        file = path(module, folder)
        if not file.exists() or file.read_text(encoding="utf-8") != view(module):
            yield file
    wanted = {path(module, folder) for module in VIEWS}
    for file in sorted(folder.rglob("*.pxd")):
        if file not in wanted and file.read_text(encoding="utf-8").startswith(HEADER):
            yield file


def write(folder: Path) -> None:
    """Leaves alone what is current: a newer file would have everything compiled again."""
    texts = {path(module, folder): view(module) for module in VIEWS}
    for file in list(outdated(folder)):
        if file in texts:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(texts[file], encoding="utf-8")
        else:
            file.unlink()


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the C views of the Structs.")
    parser.add_argument("--check", action="store_true", help="only say which are not current")
    options = parser.parse_args(arguments)
    if not options.check:
        write(FOLDER)
        return 0
    files = [str(file) for file in outdated(FOLDER)]
    if files:
        sys.stderr.write(f"Not current, run {COMMAND}: {', '.join(files)}\n")
    return 1 if files else 0


if __name__ == "__main__":
    sys.exit(main())
