"""Builds the site from docs/, into build/site/html: python -m website, or `make docs`.

The documents are copied into build/site/documents, with what stands elsewhere:

* CONTRIBUTING.md and its like, which stand in the root, where people look for them;
* what documents show of the sources;
* pages for the reference, which is made of docstrings.

All of it is written in the Markdown that the generator reads: see :mod:`website.markdown`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from website.markdown import translated
from website.navigation import as_toml, sections
from website.pages import OF_THE_ROOT, ROOT, linked, reference, with_diagrams, with_links

SITE: Final = ROOT / "build" / "site"


def write_documents() -> None:
    """Write all pages and the generator's settings."""
    shutil.rmtree(SITE, ignore_errors=True)
    pages = {
        path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
        for path in (ROOT / "docs").rglob("*.md")
    }
    pages |= {name: (ROOT / name).read_text(encoding="utf-8") for name in OF_THE_ROOT}
    shutil.copytree(ROOT / "docs", SITE / "documents", ignore=shutil.ignore_patterns("*.md"))
    # Of what is compiled, the generator would read the modules and not their sources.
    shutil.copytree(ROOT / "bridge", SITE / "bridge", ignore=shutil.ignore_patterns("*.so"))
    for path in {target for name, text in pages.items() for target in linked(name, text)}:
        _copy(ROOT / path, SITE / "documents" / "source" / path)
    shutil.copy(ROOT / "website" / "sequence.css", SITE / "documents")
    pages = {
        name: with_diagrams(translated(with_links(name, text))) for name, text in pages.items()
    }
    pages |= reference()
    for name, text in pages.items():
        (SITE / "documents" / name).parent.mkdir(parents=True, exist_ok=True)
        (SITE / "documents" / name).write_text(text, encoding="utf-8")
    settings = (ROOT / "website" / "zensical.toml").read_text(encoding="utf-8")
    navigation = as_toml(sections(pages))
    (SITE / "zensical.toml").write_text(
        settings.replace("[project]\n", f"[project]\n{navigation}", 1), encoding="utf-8"
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def main() -> int:
    """The exit code of the generator, for which every warning is an error."""
    write_documents()
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=SITE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    return built.returncode


if __name__ == "__main__":
    sys.exit(main())
