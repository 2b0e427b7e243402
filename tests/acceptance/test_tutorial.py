"""The tutorial, walked: its blocks in their order, typed and saved as a reader does it."""

import json
import shutil
from pathlib import Path

from bridge.testing.rabbitmq import free_ports
from tests.acceptance.walking import Block, Shell, blocks
from tests.integration.support import ROOT, BridgeProcess

BY_ITSELF = (
    "python3 -m venv",
    ". .venv",
    "pip ",
    "docker ",
    "python -m bridge.testing",
    "tar ",
    "mv ",
)
"""What a virtual environment, Docker or a registry is needed for, and the tests have otherwise."""
DONE_ELSEWHERE = ("pytest", "dtbridge --version")
"""At its first time: ``test_new.py`` runs the tests of a new project."""
MYPY = "ruff check && ruff format --check && mypy && pyright"


class Worker(BridgeProcess):
    """`dtbridge run --reload`."""

    ready = "consuming"


class Reader:
    """Somebody who follows the page from its beginning."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        (self.port,) = free_ports(1)
        self.shell = Shell(folder, {"DTBRIDGE_AMQP_URL": url})
        self.worker: Worker | None = None
        self.starts = 1
        self.told = ""
        """What the last command has printed."""
        self.typed: list[str] = []

    def type(self, command: str, *, exit_code: int) -> None:
        self.typed.append(command)
        command = command.replace(":9100", f":{self.port}")
        if command.startswith("dtbridge run "):
            arguments = command.split()[1:]
            self.worker = Worker(
                *arguments, url=self.url, settings={}, folder=self.shell.folder
            ).__enter__()
        else:
            self.told = self.shell.run(command, exit_code=exit_code)

    def save(self, block: Block) -> None:
        """Save a file. A worker that runs takes what it imports."""
        self.shell.write(block)
        self._taken(block.file or "")

    def mend(self, block: Block) -> None:
        """Change a line of the handlers' file."""
        path = self.shell.folder / "my_vendors" / "handlers.py"
        removed, added = block.text.splitlines(keepends=True)
        text = path.read_text()
        assert text.count(removed.removeprefix("-")) == 1
        path.write_text(text.replace(removed.removeprefix("-"), added.removeprefix("+")))
        self._taken(path.name)

    def _taken(self, file: str) -> None:
        if self.worker is not None and file.endswith(".py"):
            self.starts += 1
            self.worker.until("consuming", self.starts)

    def close(self) -> None:
        if self.worker is not None:
            self.worker.__exit__(None)


def test_whoever_follows_it_has_a_handler_that_is_tested_and_deployed(
    tmp_path: Path, amqp_url: str
) -> None:
    reader = Reader(tmp_path, amqp_url)
    page = list(blocks("tutorial.md"))
    try:
        for block, following in zip(page, [*page[1:], Block("", "")], strict=True):
            take(reader, block, following)
    finally:
        reader.close()
    assert reader.typed[-1] == "kubectl kustomize overlay"
    assert len(reader.typed) > 20
    assert [each for each in LOOKED_AT if not any(each in typed for typed in reader.typed)] == []


LOOKED_AT = (
    *('"wh": 350', "--ocpp-version ocpp1.6", '"wh": 99', '"one"', "com.acne", '"wh": 500'),
    *("MeterReadin", "dtbridge dead list", "dtbridge dead replay", "dtbridge top", "kubectl"),
)
"""What is in the commands that :func:`look` knows more about."""


def take(reader: Reader, block: Block, following: Block) -> None:
    """Do what a block asks for."""
    match block.language:
        case "json":
            assert json.loads(reader.told) == json.loads(block.text)
        case "python" | "yaml" if block.file:
            reader.save(block)
        case "diff":
            reader.mend(block)
        case "sh":
            fails = following.language == "json" and "errorCode" in following.text
            for command in block.commands:
                if not command.startswith((*BY_ITSELF, *without(reader))):
                    prepare(reader, command)
                    reader.type(checkable(command), exit_code=3 if fails else 0)
                    look(reader, command)
        case _:
            raise AssertionError(f"what is a block in {block.language!r} for?")


def without(reader: Reader) -> tuple[str, ...]:
    return DONE_ELSEWHERE if reader.worker is None else ()


def checkable(command: str) -> str:
    """`pyright` is another program here; ``test_new.py`` runs it on a new project."""
    return command.removesuffix(" && pyright") if command == MYPY else command


def prepare(reader: Reader, command: str) -> None:
    if command.startswith("kubectl"):  # what is unpacked from the source distribution
        folder = reader.shell.folder / "datatransfer-bridge"
        shutil.copytree(ROOT / "deploy", folder / "deploy")


def look(reader: Reader, command: str) -> None:
    """What the page says of a command, beside the answers that it shows."""
    if '--data \'{"connectorId": 1, "wh": 350}\'' in command:
        assert json.loads(reader.told)["data"] == {"sinceLast": 250}
    if "--ocpp-version ocpp1.6" in command:
        assert json.loads(json.loads(reader.told)["data"]) == {"sinceLast": 100}
    if '"wh": 99' in command:
        assert json.loads(reader.told)["statusInfo"]["reasonCode"] == "RunsBackwards"
    if '"one"' in command:
        assert json.loads(reader.told)["statusInfo"]["reasonCode"] == "InvalidData"
    if command.endswith("MeterReadin"):
        assert json.loads(reader.told) == {"status": "UnknownMessageId"}
    if "com.acne" in command:
        assert json.loads(reader.told) == {"status": "UnknownVendorId"}
    if '"wh": 500' in command:
        assert reader.worker is not None
        reader.worker.until("request will be tried again")
        assert json.loads(reader.told)["data"] == {"sinceLast": 150}
    if command == "dtbridge dead list":
        replayed = any(each.startswith("dtbridge dead replay") for each in reader.typed)
        assert ("ZeroDivisionError" in reader.told) is not replayed
    if command == "pytest":
        assert "5 passed" in reader.told
    if command.startswith("dtbridge top"):
        assert "com.acme" in reader.told
    if command.startswith("kubectl"):
        assert "image: registry.example/my-vendors:0.1.0" in reader.told
        assert "value: my_vendors.handlers:router" in reader.told
        assert "examples.acme:router" not in reader.told
