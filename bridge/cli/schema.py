"""``dtbridge schema``: what travels, as a document, as a page, or beside an older document."""

import enum
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from bridge.cli.exits import EXIT_DIFFERENT, EXIT_USAGE, fail
from bridge.cli.options import Prefix
from bridge.cli.output import say
from bridge.cli.routers import messages_or_fail
from bridge.cli.tables import json_text
from bridge.dialects.names import PREFIX, Names
from bridge.dialects.partitions import partitions_of
from bridge.ocpp.errors import encodable
from bridge.ocpp.faults import DECODE_FAULTS
from bridge.routing.router import fold
from bridge.schema.asyncapi import Document, document
from bridge.schema.changes import Change, NoSchema, changes
from bridge.schema.messages import VendorMessage, vendor_messages
from bridge.schema.page import page
from bridge.schema.types import SameName
from bridge.telemetry.lines import escaped
from bridge.telemetry.logs import LogFormat, LogLevel, configuring

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of an older document that are read."""
_NAMED: Final = 3
"""Vendors that a title names."""


class SchemaFormat(enum.StrEnum):
    """How the document is written."""

    JSON = "json"
    YAML = "yaml"


def schema(
    targets: Annotated[
        list[str],
        typer.Argument(
            envvar="DTBRIDGE_TARGETS",
            metavar="MODULE:NAME…",
            help="Where the routers and the messages to stations are; NAME is a Router, a"
            " StationMessage or a list of them.",
        ),
    ],
    form: Annotated[
        SchemaFormat,
        typer.Option(
            "--format",
            envvar="DTBRIDGE_SCHEMA_FORMAT",
            help="How the document is written; yaml needs the extra `yaml`.",
        ),
    ] = SchemaFormat.JSON,
    html: Annotated[
        bool,
        typer.Option(
            "--html",
            envvar="DTBRIDGE_SCHEMA_HTML",
            help="Write a page to read, which needs no network, in place of the document.",
        ),
    ] = False,
    diff: Annotated[
        Path | None,
        typer.Option(
            envvar="DTBRIDGE_SCHEMA_DIFF",
            metavar="OLD.json",
            help="Say what changes from this document on, and what of it breaks whom.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            envvar="DTBRIDGE_SCHEMA_OUTPUT",
            metavar="FILE",
            help="Where it is written; by default, standard output.",
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            envvar="DTBRIDGE_SCHEMA_TITLE", help="The document's; by default, it names the vendors."
        ),
    ] = None,
    api_version: Annotated[
        str,
        typer.Option(
            envvar="DTBRIDGE_SCHEMA_API_VERSION", help="The version of what it describes."
        ),
    ] = "1.0.0",
    prefix: Prefix = PREFIX,
) -> None:
    """Describe every message, both directions, as an AsyncAPI document. Needs no broker.

    With --diff, exit code 3: something would break stations or gateways.
    """
    if html and form is not SchemaFormat.JSON:
        fail("--html writes a page, and --format is for the document: leave one out", EXIT_USAGE)
    if diff is not None and (html or form is not SchemaFormat.JSON):
        fail("--diff prints changes: leave out --html and --format", EXIT_USAGE)
    with configuring(LogFormat.AUTO, LogLevel.WARNING):
        routers, to_stations = messages_or_fail(targets)
    messages = vendor_messages(routers, to_stations)
    for name, text in (("--title", title or ""), ("--api-version", api_version)):
        if text != encodable(text):
            fail(f"{name} is no UTF-8: {text!r:.80}", EXIT_USAGE)
    try:
        made = document(
            messages,
            title=_title(messages) if title is None else title,
            version=api_version,
            names=Names(prefix),
            partitions=partitions_of(routers),
        )
    except SameName as error:
        fail(str(error), EXIT_USAGE, error=error)
    if diff is not None:
        found = _changes(diff, made)
        _write("\n".join(lines(found)), output)
        if any(each.breaks for each in found):
            raise typer.Exit(EXIT_DIFFERENT)
    elif html:
        _write(page(made), output)
    else:
        _write(json_text(made, indent=2) if form is SchemaFormat.JSON else _yaml(made), output)


def _title(messages: tuple[VendorMessage, ...]) -> str:
    vendors = list({fold(each.vendor_id): each.vendor_id for each in messages}.values())
    more = f" and {len(vendors) - _NAMED} more" if len(vendors) > _NAMED else ""
    return f"DataTransfer of {', '.join(vendors[:_NAMED])}{more}" if vendors else "DataTransfer"


def _changes(path: Path, made: Document) -> list[Change]:
    try:
        with path.open("rb") as file:
            held = file.read(LARGEST + 1)
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", EXIT_USAGE)
    if len(held) > LARGEST:
        fail(f"{path} holds more than {LARGEST // 1024**2} MiB, and no such document", EXIT_USAGE)
    try:
        return changes(msgspec.json.decode(held), msgspec.json.decode(msgspec.json.encode(made)))
    except DECODE_FAULTS as error:
        fail(f"{path} is not JSON: give what `dtbridge schema` wrote", EXIT_USAGE, error=error)
    except NoSchema as error:
        fail(f"{path} is not what `dtbridge schema` writes: {error}", EXIT_USAGE)


def lines(found: Sequence[Change]) -> list[str]:
    """What is printed of changes: what breaks somebody first, and a summary at the end."""
    if not found:
        return ["nothing changes"]
    breaking = [each for each in found if each.breaks]
    told = [f"breaks {each.breaks}: {each}" for each in breaking]
    told += [f"compatible: {each}" for each in found if not each.breaks]
    count = f"{len(found):,} change{'s' if len(found) > 1 else ''}"
    return [*map(escaped, told), f"{count}, {len(breaking):,} breaking"]


def _write(text: str, path: Path | None) -> None:
    if path is None:
        say(text)
        return
    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", EXIT_USAGE)


def _yaml(made: Document) -> str:
    try:
        from ruamel.yaml import YAML
    except ModuleNotFoundError:
        fail("--format yaml needs the extra: pip install 'datatransfer-bridge[yaml]'", EXIT_USAGE)
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.representer.ignore_aliases = lambda _: True
    text = io.StringIO()
    yaml.dump(msgspec.to_builtins(made), text)
    return text.getvalue().removesuffix("\n")
