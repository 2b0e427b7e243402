"""``dtbridge check bridge.vendors``: the vendor packs that there are."""

import typing
from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, Final

import rich.table

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.tables import print_table
from bridge.routing.data import type_name
from bridge.vendors.catalogue import Pack, packs

PACKS: Final = "bridge.vendors"


def check_packs(targets: Sequence[str]) -> list[str]:
    """List the packs among the targets, if there are any, and return the other targets."""
    named = [each for each in targets if f"{each}.".startswith(f"{PACKS}.") and ":" not in each]
    if named:
        print_table(_table([pack for each in named for pack in _packs(each)]))
    return [each for each in targets if each not in named]


def _packs(target: str) -> list[Pack]:
    name = target.removeprefix(PACKS).removeprefix(".")
    found = [pack for pack in packs() if name in {"", pack.name}]
    if not found:
        fail(
            f"there is no vendor pack {target!r:.80}; dtbridge check {PACKS} lists them", EXIT_USAGE
        )
    return found


def _table(found: list[Pack]) -> rich.table.Table:
    table = rich.table.Table("pack", "vendor", "asked by", "message", "data", "answer", "known")
    for pack in found:
        messages = [("station", each) for each in pack.from_station]
        messages += [("CSMS", each) for each in pack.to_station]
        for asker, each in messages:
            table.add_row(
                pack.name,
                pack.vendor_id,
                asker,
                each.message_id or "(no messageId)",
                _type_name(each.data),
                _type_name(each.answer),
                pack.certainty,
            )
        if not messages:
            table.add_row(pack.name, pack.vendor_id, "", "(types only)", "", "", pack.certainty)
    return table


def _type_name(kind: Any) -> str:
    """``-``: there is no data; ``?``: what it is is not known."""
    if kind is NoneType:
        return "-"
    if typing.get_origin(kind) is Annotated:  # its limits are for the page
        kind = typing.get_args(kind)[0]
    return "?" if kind is Any else type_name(kind)
