"""RabbitMQ behind the seam of :mod:`bridge.transport`. Nothing else imports aio_pika, aiormq or pamqp.

``frames`` and ``lane`` are compiled when the package is installed, if a C compiler is there (``deploy/compile.py``). With
``DTBRIDGE_PURE=1`` in the environment their sources are run instead: slower, and the same in all else.
"""

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader

if os.environ.get("DTBRIDGE_PURE", "0") not in {"", "0"}:
    # What Python itself would look for in this folder, but for compiled modules.
    sys.path_importer_cache[__path__[0]] = FileFinder(__path__[0], (SourceFileLoader, SOURCE_SUFFIXES))
