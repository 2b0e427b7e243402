"""The packs as values: for the people who look for one, and for tools."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any, Final

import msgspec

import bridge.vendors
from bridge.vendors.pack import BareCommand, Certainty, Command, Message, messages_of

_NO_PACKS: Final = {"catalogue", "pack"}


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor's messages."""

    name: str
    """Of the module in ``bridge.vendors``."""
    vendor_id: str
    summary: str
    """One sentence."""
    certainty: Certainty
    from_station: tuple[Message, ...]
    """What stations ask. The CSMS's methods have these names."""
    to_station: tuple[Message, ...]
    """What the CSMS asks stations. The commands have these names."""


def packs() -> tuple[Pack, ...]:
    """All packs, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(bridge.vendors.__path__))
    return tuple(
        _pack(name, importlib.import_module(f"bridge.vendors.{name}"))
        for name in names
        if name not in _NO_PACKS
    )


def _pack(name: str, module: ModuleType) -> Pack:
    interface: Any = getattr(module, "CSMS", None)
    return Pack(
        name=name,
        vendor_id=module.VENDOR_ID,
        summary=str(module.__doc__).partition("\n\n")[0].replace("\n", " "),
        certainty=module.CERTAINTY,
        from_station=() if interface is None else tuple(messages_of(interface)),
        to_station=tuple(
            Message(value.message_id or "", value.data_type, value.answer_type, each)
            for each, value in vars(module).items()
            if isinstance(value, Command | BareCommand)
        ),
    )
