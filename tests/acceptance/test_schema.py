"""dtbridge schema, as a person and a CI use it, and as tools of others read what it writes."""

import json
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.acceptance.command import dtbridge, sentence
from tests.integration.support import ROOT

WORKSHOP = "tests.unit.schema.workshop"
TARGETS = (f"{WORKSHOP}:router", f"{WORKSHOP}:to_stations")
TOOLS = Path(__file__).with_name("asyncapi")

schema = partial(dtbridge, "schema", folder=ROOT)


@pytest.fixture(scope="module")
def document() -> str:
    done = schema(*TARGETS)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of the programs in JavaScript, with the packages that they use."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js is not installed: install the packages nodejs and npm")
    done = subprocess.run(
        ["make", "--no-print-directory", ".install-asyncapi"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if done.returncode:
        # A developer may be without npm's registry; where all are tested, these must be.
        give_up = pytest.fail if "CI" in os.environ else pytest.skip
        give_up(f"AsyncAPI's tools are not installed: {done.stderr.strip()[-300:]}")
    return TOOLS


def run(*command: str | Path, given: str = "") -> str:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_official_parser_finds_nothing_wrong(tools: Path, document: str) -> None:
    told = json.loads(run("node", tools / "validate.js", given=document))
    assert told["findings"] == []
    assert told["valid"]
    assert set(told["messages"]) == set(json.loads(document)["components"]["messages"])


def test_the_official_parser_is_asked(tools: Path, document: str) -> None:
    wrong = json.loads(document)
    wrong["operations"]["com.acme.GetTariff"]["action"] = "ask"
    told = json.loads(run("node", tools / "validate.js", given=json.dumps(wrong)))
    assert not told["valid"]
    assert any("action" in finding for finding in told["findings"])


def test_types_for_typescript_are_made_of_it_and_compiled_with_a_program_that_uses_them(
    tools: Path, document: str, tmp_path: Path
) -> None:
    run("node", tools / "models.js", tmp_path, given=document)
    made = {path.stem for path in tmp_path.glob("*.ts")}
    assert {"Tariff", "TariffQuery", "ComAcmeGetTariffAccepted", "CallErrorV16"} <= made
    assert not [name for name in made if name.startswith("Anonymous")]
    shutil.copy(tools / "client.ts", tmp_path)
    options = ["--noEmit", "--strict", "--module", "esnext", "--moduleResolution", "bundler"]
    run(tools / "node_modules/.bin/tsc", *options, *tmp_path.glob("*.ts"))


def test_yaml_says_the_same(document: str) -> None:
    done = schema(*TARGETS, "--format", "yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert YAML(typ="safe", pure=True).load(done.stdout) == json.loads(document)


def test_a_page_is_written_into_a_file(tmp_path: Path) -> None:
    done = schema(*TARGETS, "--html", "--output", str(tmp_path / "page.html"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "Says what a kWh costs." in text


def test_it_is_named_as_it_is_told() -> None:
    done = schema(TARGETS[0], "--title", "Ours", "--api-version", "2.3.4", "--prefix", "bridge-2")
    made = json.loads(done.stdout)
    assert (made["info"]["title"], made["info"]["version"]) == ("Ours", "2.3.4")
    exchange = made["channels"]["requests.com.acme"]["bindings"]["amqp"]["exchange"]["name"]
    assert exchange == "bridge-2"


HANDLERS = """\
import msgspec
from bridge import Call, Router

router = Router("com.acme")

class Query(msgspec.Struct):
    connector: {kind}

@router.on("Get")
async def get(call: Call, data: Query) -> None: ...
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "ours.py").write_text(HANDLERS.format(kind="int | None"))
    done = dtbridge("schema", "ours:router", "--output", "old.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "code", "told"),
    [
        ("int | None", 0, ["nothing changes"]),
        (
            "int | None = None",
            0,
            [
                "compatible: com.acme Get, request data.connector: no longer always there",
                "1 change, 0 breaking",
            ],
        ),
        (
            "int",
            3,
            [
                "breaks stations: com.acme Get, request data.connector: no longer null",
                "1 change, 1 breaking",
            ],
        ),
    ],
)
def test_a_difference_that_breaks_stations_fails(
    old: Path, kind: str, code: int, told: list[str]
) -> None:
    (old / "ours.py").write_text(HANDLERS.format(kind=kind))
    done = dtbridge("schema", "ours:router", "--diff", "old.json", folder=old)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.splitlines() == told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--diff missing.json", "missing.json cannot be read: No such file"),
        ("--diff ours.py", "ours.py is not JSON: give what `dtbridge schema` wrote"),
        ("--diff empty.json", "empty.json is not what `dtbridge schema` writes"),
        ("--diff old.json --html", "leave out --html and --format"),
        ("--html --format yaml", "leave one out"),
        ("--format xml", "'xml' is not one of"),
        ("--output no/such/folder", "no/such/folder cannot be written"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(old: Path, arguments: str, told: str) -> None:
    (old / "empty.json").write_text("{}")
    done = dtbridge("schema", "ours:router", *arguments.split(), folder=old)
    assert told in sentence(done)
    assert done.returncode == 2


def test_what_is_neither_router_nor_message_is_refused(old: Path) -> None:
    done = dtbridge("schema", "ours:Query", folder=old)
    assert "not a Router, a StationMessage or a list of them" in sentence(done)
    twins = 'from bridge import StationMessage\nboth = [StationMessage("v"), StationMessage("V")]\n'
    (old / "twins.py").write_text(twins)
    assert "there are two of" in sentence(dtbridge("schema", "twins:both", folder=old))
