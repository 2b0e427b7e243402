"""Handlers whose annotations are strings, as `from __future__ import annotations` makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

if TYPE_CHECKING:
    from bridge import Call


class Meter(msgspec.Struct):
    serial: str
    value: int = 0


async def takes_struct(call: Call, data: Meter) -> Any:
    return data.serial


async def takes_optional_list(call: Call, data: list[Meter] | None) -> Any:
    return data


async def takes_constrained(call: Call, data: Annotated[int, msgspec.Meta(ge=1)]) -> Any:
    return data


async def takes_unknown(call: Call, data: Nowhere) -> Any:  # type: ignore[name-defined]  # noqa: F821 - the point
    return data


async def takes_nonsense(call: Call, data: "not a type") -> Any:  # type: ignore[valid-type]  # noqa: F722 - the point
    return data


class CallableObject:
    async def __call__(self, call: Call, data: Meter) -> Any:
        return data.value
