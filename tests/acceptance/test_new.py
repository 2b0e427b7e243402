"""`dtbridge new`: what it writes works at once."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.acceptance.command import dtbridge, sentence
from tests.integration.support import PATIENCE, ROOT, BridgeProcess, clean_environment


class ConfiguredWorker(BridgeProcess):
    """`dtbridge run` without targets."""

    ready = "consuming"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    done = dtbridge("new", "My-Vendors", "--vendor", "EN+", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cd My-Vendors" in done.stdout
    return folder / "My-Vendors"


@pytest.mark.parametrize(
    "check", ["pytest -q", "mypy", "ruff check", "ruff format --check", "bridge check"]
)
def test_it_passes_its_own_checks(project: Path, check: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *check.split()],
        cwd=project,
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_has_nothing_to_say(project: Path, tmp_path: Path) -> None:
    """As the project sets it, but for where this bridge is."""
    settings = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["pyright"]
    settings["include"] = [str(project / folder) for folder in settings["include"]]
    settings["extraPaths"] = [str(ROOT), str(project)]
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    program = str(Path(sys.executable).with_name("basedpyright"))
    command = [program, "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] >= 3
    assert [each for each in told["generalDiagnostics"] if each["severity"] == "error"] == []


def test_its_ci_runs_what_its_readme_says_and_its_pyproject_installs(project: Path) -> None:
    workflow = (project / ".github/workflows/ci.yml").read_text()
    readme = (project / "README.md").read_text()
    installed = tomllib.loads((project / "pyproject.toml").read_text())
    extras = " ".join(installed["project"]["optional-dependencies"]["dev"])
    for tool in ("pytest", "mypy", "pyright", "ruff"):
        assert tool in workflow
        assert tool in readme
        assert tool in extras or tool == "pytest"
    assert "datatransfer-bridge[reload,testing]" in extras  # which brings pytest


def test_nothing_is_left_to_fill_in(project: Path) -> None:
    for path in project.rglob("*"):
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".yaml", ".yml"}:
            text = path.read_text(encoding="utf-8")
            assert not any(word in text for word in ("@NAME@", "@PACKAGE@", "@VENDOR@")), path
            if path.suffix == ".py":
                ast.parse(text)


def test_its_configuration_runs_its_router(project: Path, amqp_url: str) -> None:
    with ConfiguredWorker("run", url=amqp_url, settings={}, folder=project) as worker:
        started = worker.until("starting")
        assert started["config"] == "dtbridge.toml"
        assert worker.until("handles")["queue"] == "datatransfer.en_2b"
        ask = ["--station", "CP1", "--vendor", "EN+", "--message", "GetTariff", "--data", "-"]
        done = subprocess.run(
            [sys.executable, "-m", "bridge", "send", *ask, "--amqp-url", amqp_url],
            env=clean_environment(),
            input='{"connectorId": 1}',
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert '"currency": "EUR"' in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("class", "a package 'class' would hide another one"),
        ("json", "a package 'json' would hide another one"),
        ("Bridge", "a package 'bridge' would hide another one"),
        ("msgspec", "a package 'msgspec' would hide another one"),
        ("aio-pika", "a package 'aio_pika' would hide another one"),
        ("../up", "expected at most 50 letters, digits and single - or _"),
        ("1st", "expected at most 50 letters"),
        ("taken", "taken is there already: choose another name, or remove it"),
        ("x --vendor two\\words", "expected at most 50 letters, digits and . _ + -"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    done = dtbridge("new", *name.split(" "), folder=tmp_path)
    assert told in sentence(done)
    assert done.returncode == 2
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]
