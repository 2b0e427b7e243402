"""Decides which form of a module runs: the compiled one, or its source.

The modules of the hot path are compiled when the package is installed, if a C compiler is there
(``hatch_build.py``). Their sources lie beside them and do the same, at about half the speed. They
run instead where

* nothing was compiled: ``DTBRIDGE_COMPILE=no``, or no C compiler;
* Python does not look for what was compiled, because the suffix of its extension modules is another
  one: another version, a debug or free-threaded build of CPython, PyPy;
* ``DTBRIDGE_PURE`` is set in the environment, to anything but ``0``;
* a compiled module does not fit the Python or msgspec that it meets, or cannot be loaded at all. It
  is tried once. Then its source runs, a RuntimeWarning names the first such module and its reason,
  and an upgrade of msgspec never ends in an ImportError.

Each module falls back by itself, and the mixture is sound. What a compiled module knows of another
in C, it checks while it is initialised: Cython compares sizes and signatures of the classes and
functions it takes from there and finds none in a source, and ``fields.pxd`` compares the layout of
the Structs. So what was compiled against a module falls back with it. All else goes by Python's own
protocols, for which a compiled class shows every attribute and method that has no underscore.

Imported first by ``bridge/__init__.py``: modules that were found before stay as they are.
"""

import os
import sys
import warnings
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple, cast

PACKAGE = __name__.partition(".")[0]
FOLDER = sys.modules[PACKAGE].__path__[0]
PURE = os.environ.get("DTBRIDGE_PURE", "0") not in {"", "0"}

ADVICE = (
    "Install datatransfer-bridge again to have it compiled for this Python and msgspec, or set "
    "DTBRIDGE_PURE=1 to run the sources without this warning."
)


class Running(NamedTuple):
    """Which form of a module runs."""

    form: Literal["compiled", "source"]
    reason: str = ""
    """Why the source runs, although the module was compiled; empty if that runs."""


def running() -> dict[str, Running]:
    """The form of each module that was compiled for this Python and is imported by now.

    Empty: nothing was compiled for this Python, and the sources run.
    """
    suffix = EXTENSION_SUFFIXES[0]
    found = {}
    for file in sorted(Path(FOLDER).rglob(f"*{suffix}")):
        parts = file.relative_to(FOLDER).parent.parts
        name = ".".join((PACKAGE, *parts, file.name.removesuffix(suffix)))
        if name in sys.modules:
            spec = sys.modules[name].__spec__
            if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
                found[name] = Running("compiled")
            else:
                found[name] = Running("source", _misfits.get(name, "DTBRIDGE_PURE is set"))
    return found


_misfits: dict[str, str] = {}
"""Compiled modules that could not be initialised, and why. No second attempt is made: C keeps part
of the first."""

_warned: list[str] = []


class CompiledLoader(ExtensionFileLoader):
    """Loads a compiled module, or its source if that one does not fit."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty module, for the source to run in, if the file cannot be loaded."""
        if self.name not in _misfits:
            try:
                return super().create_module(spec)
            except Exception as error:  # noqa: BLE001 - whatever it is, the source can do without
                _misfits[self.name] = f"{type(error).__name__}: {error}"
        return ModuleType(self.name)

    def exec_module(self, module: ModuleType) -> None:
        """Raises what the source raises: a module that is missing is missing for both forms."""
        if self.name not in _misfits:
            try:
                return super().exec_module(module)
            except Exception as error:  # noqa: BLE001 - initialising runs the whole module
                _misfits[self.name] = f"{type(error).__name__}: {error}"
        self._run_source(module)
        if not _warned:
            _warned.append(self.name)
            message = f"{self.name} runs as plain Python, slower: {_misfits[self.name]}. {ADVICE}"
            warnings.warn(message, RuntimeWarning, stacklevel=1)
        return None

    def _run_source(self, module: ModuleType) -> None:
        spec = cast(ModuleSpec, module.__spec__)  # of a module that is being loaded, always there
        spec.origin = str(Path(self.path).with_name(f"{self.name.rpartition('.')[2]}.py"))
        spec.loader = SourceFileLoader(self.name, spec.origin)
        vars(module).clear()  # what a failed initialisation has left, functions for C included
        vars(module).update(vars(module_from_spec(spec)))
        spec.loader.exec_module(module)


def _find(path: str) -> FileFinder:
    """A hook for :data:`sys.path_hooks`: as Python's own, for the folders of this package."""
    if path != FOLDER and not path.startswith(FOLDER + os.sep):
        raise ImportError(f"{path} is not a folder of {PACKAGE}")  # so that the next hook is asked
    compiled = [] if PURE else [(CompiledLoader, EXTENSION_SUFFIXES)]
    source = [(SourceFileLoader, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES)]
    return FileFinder(path, *compiled, *source)


# Cython only warns where a class is larger than the one that a module was compiled against.
warnings.filterwarnings("error", rf"{PACKAGE}[.\w]+ size changed", RuntimeWarning)
sys.path_hooks.insert(0, _find)
for _path in [path for path in sys.path_importer_cache if path.startswith(FOLDER)]:
    del sys.path_importer_cache[_path]  # found by Python's own hook, to import this module
