"""Compiles the hot path, :data:`MODULES`, with the types of the ``.pxd`` files beside them.

The modules stay plain Python and run as it, at about half the speed, wherever there is no C compiler. As a build hook of
hatchling this runs when the project is installed; as a command, ``python hatch_build.py``, it compiles in place what has
changed. ``DTBRIDGE_COMPILE`` says what is to be done: ``auto`` (the default: compile if it can be done), ``required``
(fail if it cannot), ``no``.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
MODULES = (
    "bridge.dialects.native",
    "bridge.idempotency.guard",
    "bridge.idempotency.memory",
    "bridge.rabbitmq.consuming",
    "bridge.rabbitmq.frames.properties",
    "bridge.rabbitmq.frames.reading",
    "bridge.rabbitmq.frames.writing",
    "bridge.rabbitmq.outbox",
    "bridge.rabbitmq.publishing",
    "bridge.rabbitmq.socket",
    "bridge.request.running",
    "bridge.routing.router",
    "bridge.worker.dispatch",
    "bridge.worker.intake",
    "bridge.worker.pace",
)
"""Nothing but what runs for each message, and of that what gains by it."""

WARNINGS = (
    "-Wno-maybe-uninitialized",
    "-Wno-sign-compare",
    "-Wno-array-bounds",
    "-Wno-unused-function",
)
"""Those that Cython's own C raises."""

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def source(module: str) -> Path:
    """Its Python."""
    return ROOT / f"{module.replace('.', '/')}.py"


def extension(module: str) -> Path:
    """The compiled module, beside its source."""
    return source(module).with_suffix(SUFFIX)


def stale() -> list[str]:
    """The modules that are not compiled, or were before their source or any of the types changed."""
    types = max(
        file.stat().st_mtime for file in (Path(__file__), *(ROOT / "bridge").rglob("*.pxd"))
    )
    return [
        module
        for module in MODULES
        if not extension(module).exists()
        or extension(module).stat().st_mtime < max(types, source(module).stat().st_mtime)
    ]


def compile_in_place() -> None:
    """Raises whatever Cython, setuptools and the C compiler raise."""
    from Cython.Build import cythonize  # noqa: PLC0415 - not needed where nothing is compiled
    from setuptools import Distribution, Extension  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    os.chdir(ROOT)
    types = Path("build/types/bridge")  # where Cython looks for them: the tree they mirror
    shutil.rmtree(types, ignore_errors=True)
    for file in Path("bridge/compiled").rglob("*.pxd"):
        (types / file.relative_to("bridge/compiled")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, types / file.relative_to("bridge/compiled"))
    extensions = [
        # O3, for -O2 does not inline what reads the frames.
        Extension(
            module,
            [str(source(module).relative_to(ROOT))],
            extra_compile_args=["-O3", "-g1", *WARNINGS],
        )
        for module in MODULES
    ]
    directives = {
        "annotation_typing": False,
        "binding": True,
        "language_level": 3,
        "nonecheck": True,
    }
    compiled = cythonize(
        extensions,
        build_dir="build/cython",
        include_path=[str(types.parent)],
        compiler_directives=directives,
        quiet=True,
        force=True,
    )
    command = build_ext(Distribution({"ext_modules": compiled, "packages": []}))
    command.inplace = True
    command.build_temp = "build/objects"
    command.ensure_finalized()
    command.run()
    for module in MODULES:
        extension(module).touch()


def compile_as_told() -> bool:
    """Whether the compiled modules are there now. Raises RuntimeError if they are required and are not."""
    wish = os.environ.get("DTBRIDGE_COMPILE", "auto")
    if wish not in {"auto", "required", "no"}:
        raise RuntimeError(f"DTBRIDGE_COMPILE is auto, required or no, not {wish!r}")
    if wish == "no":
        for module in MODULES:
            extension(module).unlink(missing_ok=True)
        return False
    if not stale():
        return True
    try:
        compile_in_place()
    except (Exception, SystemExit) as error:
        for module in MODULES:  # an older one would run in place of its source
            extension(module).unlink(missing_ok=True)
        if wish == "required":
            raise RuntimeError(f"the hot path could not be compiled: {error}") from error
        sys.stderr.write(
            f"The hot path is not compiled, and runs as Python: {type(error).__name__}: {error}\n"
        )
        return False
    return True


class CompileHook(BuildHookInterface):  # type: ignore[type-arg] # its parameter is hatchling's own configuration
    """Compiles before a wheel, or an installation in place, is made."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version`: ``standard`` or ``editable``."""
        if compile_as_told() and version != "editable":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"] += [f"bridge/**/*{SUFFIX}"]


if __name__ == "__main__":
    compile_as_told()
