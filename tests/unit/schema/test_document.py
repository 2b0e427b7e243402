"""docs/schema.md says what is so."""

import enum
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import typer

from bridge import Call, Router, StationMessage
from bridge.cli.main import application
from bridge.cli.schema import lines
from bridge.dialects.names import Names
from bridge.schema.asyncapi import Document, document
from bridge.schema.changes import changes
from bridge.schema.messages import vendor_messages

TEXT = (Path(__file__).parents[3] / "docs" / "schema.md").read_text(encoding="utf-8")


def test_its_example_is_a_message_to_stations() -> None:
    [block] = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    module: dict[str, Any] = {"__name__": "example"}
    exec(block, module)
    [message] = vendor_messages([], module["to_stations"])
    assert (message.vendor_id, message.message_id) == ("com.acme", "ShowText")
    assert isinstance(module["SHOW_TEXT"], StationMessage)


def test_its_options_are_those_of_the_command() -> None:
    command: Any = typer.main.get_group(application())
    options = {
        option.opts[0]: option
        for option in command.commands["schema"].params
        if option.opts[0] not in {"--help", "--config"}
    }
    rows = re.findall(r"^\| `([^ `]+)[^`]*` \| `(\w+)` \| (.*?) \|", TEXT, re.MULTILINE)
    assert {name.replace("MODULE:NAME…", "targets") for name, _, _ in rows} == set(options)
    for name, variable, default in rows:
        option = options[name.replace("MODULE:NAME…", "targets")]
        assert option.envvar in (variable, [variable])
        if isinstance(option.default, str | enum.Enum):
            assert default == f"`{option.default}`"


def test_its_example_of_changes_is_what_is_printed() -> None:
    [printed] = re.findall(r"^```text\n(breaks .*?)\n```", TEXT, re.MULTILINE | re.DOTALL)
    old = made(
        msgspec.defstruct("Query", [("kind", Literal["ac", "dc"])]),
        msgspec.defstruct("Tariff", [("currency", str), ("price", float)]),
    )
    new = made(
        msgspec.defstruct("Query", [("kind", Literal["ac"]), ("phase", int, 1)]),
        msgspec.defstruct("Tariff", [("price", float)]),
    )
    assert "\n".join(lines(changes(old, new))) == printed


def made(query: Any, tariff: Any) -> Document:
    async def get_tariff(call: Call, data: Any) -> Any: ...

    get_tariff.__annotations__ |= {"data": query, "return": tariff}
    router = Router("com.acme")
    router.on("GetTariff")(get_tariff)
    return document(vendor_messages([router]), title="", version="", names=Names())
