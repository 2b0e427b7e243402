"""Compiles the hot path, :data:`MODULES`, with the types in ``bridge/compiled/**.pxd``.

The modules are plain Python, and run as that, at about half the speed, where there is no C
compiler. As a build hook of hatchling this runs when the project is installed or a wheel is built.
As a command, ``python hatch_build.py``, it compiles them in place, beside their sources, if one of
them has changed.

The environment variable ``DTBRIDGE_COMPILE`` says what is to be done: ``auto`` (the default)
compiles if that is possible, ``required`` fails if it is not, ``no`` removes what was compiled.

A second hook makes the description that an index of packages shows of the README.
"""

import contextlib
import math
import os
import re
import shutil
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).resolve().parent

MODULES = (
    "bridge.client.asking",
    "bridge.client.requester",
    "bridge.dialects.native",
    "bridge.gateway.connection_id",
    "bridge.gateway.forwarding",
    "bridge.gateway.intake",
    "bridge.gateway.stations",
    "bridge.gateway.turns",
    "bridge.gateway.websocket.connection",
    "bridge.gateway.websocket.conversation",
    "bridge.gateway.websocket.frames",
    "bridge.gateway.websocket.in_hand",
    "bridge.gateway.websocket.station_socket",
    "bridge.idempotency.guard",
    "bridge.idempotency.memory",
    "bridge.rabbitmq.consuming",
    "bridge.rabbitmq.frames.properties",
    "bridge.rabbitmq.frames.reading",
    "bridge.rabbitmq.frames.writing",
    "bridge.rabbitmq.outbox",
    "bridge.rabbitmq.publishing",
    "bridge.rabbitmq.socket",
    "bridge.request.counting",
    "bridge.request.running",
    "bridge.request.wheel",
    "bridge.routing.router",
    "bridge.telemetry.measures",
    "bridge.worker.dispatch",
    "bridge.worker.events",
    "bridge.worker.intake",
    "bridge.worker.ledger",
    "bridge.worker.pace",
)
"""Only what runs for each message, and of that only what gains by it."""

WARNINGS = (
    "-Wno-maybe-uninitialized",
    "-Wno-sign-compare",
    "-Wno-array-bounds",
    "-Wno-unused-function",
)
"""Switched off: Cython's own C code raises them."""

SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))


def source(module: str) -> Path:
    """Its Python."""
    return ROOT / f"{module.replace('.', '/')}.py"


def extension(module: str) -> Path:
    """The compiled module, beside its source."""
    return source(module).with_suffix(SUFFIX)


def outdated() -> list[str]:
    """The compiled modules that would run in place of a newer source.

    They are older than the source or than any of the types, or are no longer to be compiled.
    """
    files = (Path(__file__), *(ROOT / "bridge" / "compiled").rglob("*.pxd"))
    types = max(file.stat().st_mtime for file in files)
    found = []
    for file in sorted((ROOT / "bridge").rglob(f"*{SUFFIX}")):
        module = ".".join(file.relative_to(ROOT).with_name(file.name.removesuffix(SUFFIX)).parts)
        newest = max(types, source(module).stat().st_mtime) if module in MODULES else math.inf
        if file.stat().st_mtime < newest:
            found.append(module)
    return found


def stale() -> list[str]:
    """The modules that have to be compiled, for the first time or again."""
    return [module for module in MODULES if not extension(module).exists()] + outdated()


def remove_except(modules: tuple[str, ...]) -> None:
    """Removes other compiled modules, which would run in place of their sources."""
    wanted = {extension(module) for module in modules}
    for file in (ROOT / "bridge").rglob(f"*{SUFFIX}"):
        if file not in wanted:
            file.unlink()


def write_types() -> Path:
    """A tree like that of bridge, because Cython looks for types where a module's name says.

    Every package and every module of the list has a file there. Where one were missing, Cython
    would go on looking, along the path of Python, and find that of another version.
    """
    tree = Path("build/types")
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(
        "bridge/compiled", tree / "bridge", ignore=shutil.ignore_patterns("*.py", "*.pyc")
    )
    (tree / "bridge/compiled").mkdir()
    (tree / "bridge/fields.pxd").rename(tree / "bridge/compiled/fields.pxd")
    for module in MODULES:
        types = tree / f"{module.replace('.', '/')}.pxd"
        types.parent.mkdir(parents=True, exist_ok=True)
        types.touch()
    for package in (tree / "bridge", *(path for path in tree.rglob("*") if path.is_dir())):
        (package / "__init__.pxd").touch()
    return tree


def compile_in_place() -> None:
    """Raises whatever Cython, setuptools and the C compiler raise."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    began = time.time()  # a source that is changed meanwhile is newer than what is compiled
    with contextlib.chdir(ROOT):
        types = write_types()
        extensions = [
            Extension(
                module,
                [str(source(module).relative_to(ROOT))],
                # -O2 does not inline what reads the frames.
                extra_compile_args=["-O3", "-g1", *WARNINGS],
            )
            for module in MODULES
        ]
        compiled = cythonize(
            extensions,
            build_dir="build/cython",
            include_path=[str(types)],
            compiler_directives={
                "annotation_typing": False,
                "binding": True,
                "language_level": 3,
                "nonecheck": True,
            },
            quiet=True,
            force=True,
        )
        command = build_ext(Distribution({"ext_modules": compiled, "packages": []}))
        command.parallel = os.cpu_count()
        command.inplace = True
        command.build_temp = "build/objects"
        command.ensure_finalized()
        command.run()
    for module in MODULES:
        os.utime(extension(module), (began, began))


def compile_as_told() -> bool:
    """Whether the modules are compiled now, all of them; otherwise none is.

    Raises RuntimeError if they are required and cannot be compiled.
    """
    wish = os.environ.get("DTBRIDGE_COMPILE", "auto")
    if wish not in {"auto", "required", "no"}:
        raise RuntimeError(f"DTBRIDGE_COMPILE is auto, required or no, not {wish!r}")
    if wish == "no":
        remove_except(())
        return False
    remove_except(MODULES)
    if not stale():
        return True
    try:
        compile_in_place()
    except (Exception, SystemExit) as error:
        remove_except(())
        if wish == "required":
            raise RuntimeError(f"the hot path could not be compiled: {error}") from error
        sys.stderr.write(
            f"The hot path is not compiled, and runs as Python: {type(error).__name__}: {error}\n"
        )
        return False
    return True


class CompileHook(BuildHookInterface[BuilderConfig]):
    """Compiles before a wheel is built, or the project is installed in place."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version`: ``standard`` or ``editable``."""
        if compile_as_told() and version != "editable":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"] += [
                f"/{extension(module).relative_to(ROOT).as_posix()}" for module in MODULES
            ]


class DescriptionHook(MetadataHookInterface):
    """Makes the project's description and its addresses, from ``repository`` in pyproject.toml."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        repository = str(self.config["repository"]).rstrip("/")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        files = f"{repository}/blob/v{metadata['version']}" if repository else ""
        metadata["readme"] = {"content-type": "text/markdown", "text": description(text, files)}
        metadata["urls"] = addresses(repository, files) if repository else {}


def description(readme: str, files: str) -> str:
    """The README as it can stand elsewhere, with links to `files`; without that, with none."""
    link = re.compile(r"\[([^\[\]]*)\]\((?![a-z]+:|#)([^)]+)\)")
    return link.sub(rf"[\1]({files}/\2)" if files else r"\1", readme)


def addresses(repository: str, files: str) -> dict[str, str]:
    """What an index of packages links to."""
    return {
        "Changelog": f"{files}/CHANGELOG.md",
        "Documentation": f"{files}/docs/index.md",
        "Issues": f"{repository}/issues",
        "Source": repository,
    }


if __name__ == "__main__":
    compile_as_told()
