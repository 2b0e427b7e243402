"""``MODULE:NAME`` on the command line → routers."""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeVar, cast

import typer

from bridge.cli.exits import EXIT_USAGE, fail
from bridge.cli.options import words
from bridge.request.outcome import describe_error
from bridge.routing.errors import HandlerError
from bridge.routing.router import Router, Routes, fold
from bridge.routing.station_message import ToStation
from bridge.telemetry.exceptions import users_place

Loaded = TypeVar("Loaded")

Targets = Annotated[
    list[str],
    typer.Argument(
        envvar="DTBRIDGE_TARGETS",
        metavar="MODULE:NAME…",
        help="Where the routers are; NAME is a Router or a list of them.",
    ),
]


def load_routers(targets: Sequence[str]) -> list[Router]:
    """Import the routers that ``MODULE:NAME`` targets name, each once.

    Raises ValueError or TypeError, with a sentence, for a target that names no router, and
    HandlerError for a handler or a set of routers that cannot be.
    """
    routers: list[Router] = []
    for target, router in _each(targets):
        if not isinstance(router, Router):
            raise TypeError(
                f"{target} is a {type(router).__name__}, not a Router or a list of them"
            )
        if router not in routers:
            routers.append(router)
    Routes(routers)
    return routers


def load_messages(targets: Sequence[str]) -> tuple[list[Router], list[ToStation]]:
    """As :func:`load_routers`, where some may name messages to stations, or lists with them."""
    routers: list[Router] = []
    to_stations: dict[tuple[str, str | None], ToStation] = {}
    for target, each in _each(targets):
        if isinstance(each, ToStation):
            message_id = each.message_id and fold(each.message_id)
            other = to_stations.setdefault((fold(each.vendor_id), message_id), each)
            if other is not each:
                raise ValueError(f"{target}: there are two of {each!r} (case does not count)")
        elif not isinstance(each, Router):
            raise TypeError(
                f"{target} is a {type(each).__name__}, not a Router, a StationMessage or a list of"
                " them"
            )
        elif each not in routers:
            routers.append(each)
    Routes(routers)
    return routers, list(to_stations.values())


def _each(targets: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """What the targets name, and what is in the lists that they name, with the target of each."""
    look_here()
    for target in targets:
        found = _load(target)
        for each in found if isinstance(found, list | tuple) else (found,):
            yield target, each


def look_here() -> None:
    """Let modules of the current directory be found."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _load(target: str) -> Any:
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ValueError(f"{target!r} is not MODULE:NAME, for example my_vendors.acme:router")
    if "/" in module_name or module_name.endswith(".py"):
        imported = ".".join(Path(module_name.removesuffix(".py")).parts)
        raise ValueError(
            f"{target}: {module_name} is a path; write the module as Python imports it: "
            f"{imported}:{name}"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{target}: there is no module {error.name!r}{_at(error)}{_where(module_name, error)}"
        ) from error
    except (HandlerError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        # Whatever its code: one of 0 would have a check in CI pass without a word.
        raise ValueError(
            f"{target}: importing {module_name} asked the process to exit, with {error.code!r}"
            f"{_at(error)}; a program's own beginning belongs below `if __name__ == '__main__':`"
        ) from error
    except BaseException as error:
        raise ValueError(
            f"{target}: importing {module_name} failed with {_one_line(error)}{_at(error)}"
        ) from error
    try:
        return getattr(module, name)
    except AttributeError:
        raise ValueError(
            f"{target}: module {module_name} has no {name!r}{_routers_in(module)}"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the module's own __getattr__
        raise ValueError(
            f"{target}: {name!r} cannot be had: {_one_line(error)}{_at(error)}"
        ) from error


def _where(module_name: str, error: ModuleNotFoundError) -> str:
    """Where modules are looked for, as a clause, if it is the target's own that is not found."""
    if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
        return ""
    return f"; modules are looked for in {Path.cwd()}, and where Python looks (PYTHONPATH)"


def _routers_in(module: ModuleType) -> str:
    """The names of a module's routers, as a clause; empty if it has none."""
    names = [name for name, value in vars(module).items() if isinstance(value, Router)]
    return f"; it has {', '.join(names[:5])}" if names else ""


def _one_line(error: BaseException) -> str:
    return " ".join(describe_error(error).split())


def _at(error: BaseException) -> str:
    """Where in the user's files, as a clause; empty if it came up in none."""
    place = users_place(error)
    return f", at {place}" if place else ""


def routers_or_fail(targets: Sequence[str]) -> list[Router]:
    """As :func:`load_routers`, but what is wrong ends the command."""
    return _or_fail(load_routers, targets)


def messages_or_fail(targets: Sequence[str]) -> tuple[list[Router], list[ToStation]]:
    """As :func:`load_messages`, but what is wrong ends the command."""
    return _or_fail(load_messages, targets)


def _or_fail(load: Callable[[Sequence[str]], Loaded], targets: Sequence[str]) -> Loaded:
    if any("@" in target or "://" in target for target in targets):
        # It is not shown: it may hold a password.
        fail("a URL stands where MODULE:NAME is expected; a broker's is for --amqp-url", EXIT_USAGE)
    try:
        return load(words(targets))
    except HandlerError as error:
        fail(f"{error}{_at(error)}", EXIT_USAGE, error=error)
    except (ValueError, TypeError) as error:
        fail(str(error), EXIT_USAGE, error=error.__cause__)


def hook_or_fail(target: str) -> Callable[..., Any]:
    """The function that a ``MODULE:NAME`` names; what is wrong ends the command."""
    try:
        look_here()
        found = _load(target)
    except (ValueError, TypeError) as error:
        fail(str(error), EXIT_USAGE, error=error.__cause__)
    if not callable(found):
        fail(f"{target} is a {type(found).__name__}, not a function", EXIT_USAGE)
    return cast("Callable[..., Any]", found)
