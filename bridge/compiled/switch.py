"""``DTBRIDGE_PURE=1`` in the environment: the sources of the compiled modules run in their place. Slower, and the same in all else.

The modules of the hot path are compiled when the package is installed, if a C compiler is there (``hatch_build.py``).
"""

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

if os.environ.get("DTBRIDGE_PURE", "0") not in {"", "0"}:
    for package in Path(__file__).parents[1].rglob("__init__.py"):
        # What Python itself would look for in this folder, but for compiled modules.
        folder = str(package.parent)
        sys.path_importer_cache[folder] = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))
