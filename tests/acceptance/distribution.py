"""The source distribution, as it would be published, and what is built of it."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.integration.support import ROOT

COMPILER = r"""#!/bin/sh
# A C compiler that takes what `make` has compiled already of the same C. Cython names its own files
# by a path from where it runs, if it lies below.
for word; do
    case $word in *.c) source=$word ;; *.o) object=$word ;; esac
done
made=ROOT/$object
if [ -n "$source" ] && [ "$made" -nt "ROOT/$source" ] &&
        sed 's#"[^"]*/Cython/Includes/#"#' "ROOT/$source" | cmp -s - "$source"; then
    exec cp "$made" "$object"
fi
exec cc "$@"
"""


def sources(folder: Path) -> Path:
    """Build the source distribution in a folder, and unpack it there."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)],
        check=True,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def wheel(project: Path) -> Path:
    """Build a wheel from a tree of sources, without compiling anything."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "made"],
        check=True,
        capture_output=True,
        cwd=project,
        timeout=60,
        env=os.environ | {"DTBRIDGE_COMPILE": "no"},
    )
    [file] = (project / "made").glob("*.whl")
    return file


def compiler(folder: Path) -> Path:
    """A C compiler that does nothing twice: what is compiled in the work tree takes minutes."""
    program = folder / "cc"
    program.write_text(COMPILER.replace("ROOT", str(ROOT)))
    program.chmod(0o755)
    return program
