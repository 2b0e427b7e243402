"""The source distribution has what it takes to build the project, to test it and to make its image.

That its image can be made, test_image.py shows.
"""

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.acceptance.distribution import sources, wheel
from tests.integration.support import ROOT


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources(tmp_path_factory.mktemp("sdist"))


def test_it_has_the_sources_and_nothing_that_was_made(project: Path) -> None:
    assert {path.name for path in project.iterdir()} == {
        *(
            ".dockerignore",
            ".github",
            ".gitignore",
            "CHANGELOG.md",
            "CONTRIBUTING.md",
            "LICENSE",
            "Makefile",
        ),
        *("PKG-INFO", "README.md", "RELEASE.md", "SECURITY.md", "bridge", "compose.yaml", "deploy"),
        *("docs", "examples", "hatch_build.py", "pyproject.toml", "requirements-build.lock"),
        *("requirements-dev.lock", "requirements.lock", "tests", "website"),
    }
    made = ("*.so", "*.pyc", "*/node_modules/*", "*/build/*", "*/.*_cache/*")
    paths = [str(path.relative_to(project.parent)) for path in project.rglob("*")]
    assert [path for path in paths if any(fnmatch(path, each) for each in made)] == []


def test_it_has_what_the_image_is_made_of(project: Path) -> None:
    """And the context of the build lets it in."""
    dockerfile = (project / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert {"bridge", "requirements.lock", "requirements-build.lock"} <= names
    assert all((project / name).exists() for name in names)
    let_in = re.findall("^!(.+)$", (project / ".dockerignore").read_text(), re.MULTILINE)
    assert set(let_in) == names


def test_its_tests_run(project: Path) -> None:
    """Some of them, on the modules that it has: of the others it has the files as well."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/ocpp"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^\d{2,} passed", ran.stdout, re.MULTILINE)
    tests = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    assert {path for path in tests if not (project / path).exists()} == set()


def test_it_is_what_an_index_takes_and_so_is_its_wheel(project: Path) -> None:
    built = shutil.copy(wheel(project), project.parent)
    [archive] = project.parent.glob("*.tar.gz")
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(archive), str(built)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("PASSED") == 2
