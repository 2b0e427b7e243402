"""The Dockerfile, replayed without a container engine: its steps as processes, in a folder.

Of the base image Python is taken for granted, and of its packages the compiler. What is copied is
that of the source distribution. In place of pip, uv installs by the same hashes, which takes
seconds, and C that `make` has compiled already is not compiled again.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.check import ROOT, shown_dockerfiles
from tests.acceptance.distribution import compiler, sources
from tests.acceptance.test_readme import blocks

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STEP = re.compile(r"^([A-Z]+) (.+)$", re.MULTILINE)
PLACES = re.compile(r"(?<![\w./-])/(opt|wheels|build|app|handlers)\b")
"""What the image has in its root, and we in a folder."""
SKIPPED = ("apt-get", "groupadd")
PIP_INSTALL = re.compile(r"(\S+/bin/)pip install\b")
PIP_WHEEL = re.compile(r"(\S+/bin/)pip wheel\b")


class Image:
    """What has been built, and the settings that it has."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.environment: dict[str, str] = {}
        self.entrypoint: list[str] = []
        self.workdir = folder

    def place(self, text: str) -> str:
        return PLACES.sub(lambda match: f"{self.root}/{match[1]}", text)

    def build(self, dockerfile: str, context: Path) -> None:
        for step, arguments in STEP.findall(dockerfile):
            match step:
                case "FROM":
                    self.environment = dict(self.environment) if self.entrypoint else {}
                case "ENV":
                    for each in shlex.split(arguments):
                        name, _, value = each.partition("=")
                        path = self.place(value).replace("$PATH", os.environ["PATH"])
                        self.environment[name] = path
                case "WORKDIR":
                    self.workdir = Path(self.place(arguments))
                    self.workdir.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    if not arguments.startswith("--from="):
                        self.copy(context, *arguments.split())
                case "RUN":
                    self.run(arguments)
                case "ENTRYPOINT":
                    self.entrypoint = re.findall('"(.*?)"', arguments)

    def copy(self, context: Path, *paths: str) -> None:
        *sources, target = paths
        for source in sources:
            place = self.workdir / self.place(target)
            if (context / source).is_dir():
                shutil.copytree(context / source, place, ignore=_ignored, dirs_exist_ok=True)
            else:
                shutil.copy(context / source, place)

    def run(self, command: str) -> None:
        if command.startswith(SKIPPED):
            return
        python = shlex.quote(sys.executable)
        command = self.place(command)
        command = re.sub(r"\bpython -m venv", f"{python} -m venv --without-pip", command)
        command = PIP_INSTALL.sub(rf"{python} -m uv pip install --python \1python", command)
        command = PIP_WHEEL.sub(rf"{python} -m pip --python \1python wheel", command)
        done = subprocess.run(
            ["bash", "-ec", command],
            env=clean() | self.environment | {"CC": str(compiler(self.root))},
            cwd=self.workdir,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

    def start(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the entry point, with nothing of our own Python."""
        return subprocess.run(
            [*self.entrypoint, *arguments],
            env=clean() | self.environment | more,
            cwd=self.workdir,
            executable=shutil.which(self.entrypoint[0], path=self.environment["PATH"]),
            capture_output=True,
            text=True,
            check=False,
        )


def clean() -> dict[str, str]:
    """Where pip finds packages is the machine's business; what configures us or Python is not."""
    kept = re.compile(
        "PIP_|UV_|SSL_CERT_|HOME$|PATH$|LANG|https?_proxy|no_proxy|DTBRIDGE_TEST_SESSION",
        re.IGNORECASE,
    )
    return {name: value for name, value in os.environ.items() if kept.match(name)}


def _ignored(folder: str, names: list[str]) -> set[str]:
    """As .dockerignore has it."""
    return {name for name in names if name == "__pycache__" or name.endswith(".so")}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The project's image. What it needs is installed by hash, and compiled."""
    image = Image(tmp_path_factory.mktemp("image"))
    image.build(DOCKERFILE, sources(tmp_path_factory.mktemp("sources")))
    return image


def test_it_has_every_extra_and_is_compiled(image: Image) -> None:
    modules = "uvloop, redis, psycopg_pool, websockets, opentelemetry.sdk, bridge.worker.dispatch"
    python = Path(image.environment["PATH"].partition(":")[0]) / "python"
    shown = subprocess.run(
        [
            python,
            "-c",
            f"import {modules}; print(bridge.__file__, bridge.worker.dispatch.__file__)",
        ],
        env=clean() | image.environment,
        cwd=image.workdir,
        capture_output=True,
        text=True,
        check=True,
    )
    package, dispatch = shown.stdout.split()
    assert package.startswith(str(image.root))
    assert dispatch.endswith(".so")


def test_the_example_can_be_run(image: Image) -> None:
    done = image.start("check", "examples.acme:router")
    assert done.returncode == 0, done.stderr
    assert "GetTariff" in done.stdout


def test_what_is_mounted_at_handlers_can_be_run(image: Image) -> None:
    """As compose.yaml does it."""
    (image.root / "handlers").symlink_to(ROOT / "examples")
    done = image.start("check", DTBRIDGE_TARGETS="acme:router volta:routers")
    assert done.returncode == 0, done.stderr
    assert {"com.acme", "com.volta.charging"} <= set(re.findall(r"[\w.]+", done.stdout))


def test_handlers_of_ones_own_come_in_by_the_two_lines_that_are_shown(
    image: Image, tmp_path: Path
) -> None:
    (tmp_path / "my_vendors").mkdir()
    (tmp_path / "my_vendors" / "acme.py").write_text(blocks("python")[0])
    image.build(shown_dockerfiles()[0], tmp_path)
    done = image.start("check", "my_vendors.acme:router")
    assert done.returncode == 0, done.stderr
    assert "GetTariff" in done.stdout


def test_nothing_is_written_beside_the_modules(image: Image) -> None:
    """The root is read-only where it runs."""
    image.start("check", "examples.acme:router")
    assert not list((image.root / "app" / "examples").rglob("__pycache__"))
