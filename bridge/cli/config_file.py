"""``dtbridge.toml``: options in a file, below the environment and the command line.

The keys are the options' names, in a section for each command:

>>> prefix = "bridge-2"  # for every command that reads DTBRIDGE_PREFIX
>>> [run]
>>> targets = ["my_vendors.acme:router"]
>>> amqp-url-file = "/run/secrets/url"

A value goes the way that it would go from the command line, with the same checks.
"""

import functools
import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, NoReturn, TypeVar

import typer

from bridge.cli.exits import EXIT_USAGE, fail, speak_as_configured
from bridge.cli.secrets import IN_FILE, file_variable
from bridge.rabbitmq.hosts import FROM_FILE

Result = TypeVar("Result")

NAME: Final = "dtbridge.toml"
"""The file that is read, where there is one, unless another one is named."""
LARGEST: Final = 256 * 1024
"""Bytes of such a file at most."""
_VARIABLE: Final = "DTBRIDGE_CONFIG"
_NO_FILE: Final = frozenset({"health", "completion", "new"})
"""Commands that read no file: a probe must be fast, and the others have no options to keep."""
_OWN: Final = frozenset({"config", "help"})


class _Read:
    """What this process's command has read."""

    path: str | None = None


class _Setting(NamedTuple):
    """What one key says."""

    name: str
    """The parameter, by its name in Python."""
    value: Any


# ---- the option ----


def configured(command: Callable[..., Result]) -> Callable[..., Result]:
    """The same command with the option ``--config``, read before all its other options."""
    signature = inspect.signature(command)
    if "config" in signature.parameters:
        return command
    option = inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_ConfigOption
    )

    @functools.wraps(command)
    def with_config(*args: Any, config: Path | None = None, **options: Any) -> Result:
        del config  # its callback has read it
        return command(*args, **options)

    with_config.__signature__ = signature.replace(  # type: ignore[attr-defined] # inspect reads it
        parameters=[*signature.parameters.values(), option]
    )
    with_config.__annotations__ = {**command.__annotations__, "config": _ConfigOption}
    return with_config


def configure_commands(app: typer.Typer) -> None:
    """Give every command of `app` that is registered by now, and of its groups, the option."""
    for group in app.registered_groups:
        if group.typer_instance is not None:
            configure_commands(group.typer_instance)
    for command in app.registered_commands:
        if command.callback is not None and command.callback.__name__ not in _NO_FILE:
            command.callback = configured(command.callback)


def _on_config(context: typer.Context, given: Path | None) -> Path | None:
    """Have the options that are not given otherwise from the file."""
    _Read.path = None
    if context.resilient_parsing:  # somebody types, and the shell wants to complete it
        return given
    path = Path(NAME) if given is None else given
    held = _read(path, must_be_there=given is not None)
    if held is None:
        return None
    root = context.find_root().command
    check(held, root, str(path))
    known = _commands(root)
    sections = _sections_of(context)
    settings: dict[str, Any] = {}
    for depth in range(len(sections) + 1):  # the command's own counts most
        inside: Any = held
        for section in sections[:depth]:
            inside = inside.get(section, {})
        settings |= dict(
            _settings(inside, sections, known[sections], is_root=depth == 0, file=str(path))
        )
    context.default_map = settings
    _Read.path = str(path)
    speak_as_configured(settings)
    return path


_ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=_VARIABLE,
        callback=_on_config,
        is_eager=True,
        metavar="FILE",
        help="Options in TOML, which count less than the environment and what is given here.  "
        f"[default: {NAME}, if it is there]",
        show_default=False,
    ),
]


def may_be_read(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a command that is given these may read a file."""
    named = any(argument.startswith("--config") for argument in arguments)
    return named or _VARIABLE in environment or Path(NAME).exists()


def read_from() -> str | None:
    """The file that the command has read options from; None: there is none."""
    return _Read.path


def is_from_file(context: Any, parameter: Any) -> bool:
    """Whether the file says what this parameter is. Takes Click's own, of whichever version."""
    source = context.get_parameter_source(parameter.name)
    return source is not None and source.name == "DEFAULT_MAP"


# ---- the file ----


def _read(path: Path, *, must_be_there: bool) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            fail(f"{path} is no configuration: it holds more than {LARGEST // 1024} kB", EXIT_USAGE)
        return tomllib.loads(text.decode())
    except FileNotFoundError as error:
        if not must_be_there:
            return None
        _fail_to_read(path, str(error.strerror))
    except OSError as error:
        _fail_to_read(path, error.strerror or str(error))
    except UnicodeDecodeError:
        _fail_to_read(path, "it is not UTF-8")
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError is a ValueError
        fail(f"{path} is not TOML: {error}", EXIT_USAGE)


def _fail_to_read(path: Path, why: str) -> NoReturn:
    fail(f"the configuration cannot be read from the file {path}: {why}", EXIT_USAGE)


def check(held: Mapping[str, Any], root: Any, file: str) -> None:
    """Ends the command for a section or key that no command has, and for a value of another kind.

    `root`: the group of all commands, as Click has it.
    """
    known = _commands(root)
    _check_section(held, (), known, file)


def _check_section(
    held: Mapping[str, Any],
    section: tuple[str, ...],
    known: Mapping[tuple[str, ...], list[Any]],
    file: str,
) -> None:
    below = {path: each for path, each in known.items() if path[: len(section)] == section}
    depth = len(section)
    subsections = {path[depth] for path in below if len(path) > depth}
    keys = {
        key: parameter
        for parameters in below.values()
        for parameter in parameters
        for key in _keys(parameter, is_root=not section)
    }
    where = f"[{'.'.join(section)}] of {file}" if section else file
    for key, value in held.items():
        if isinstance(value, dict):
            if key not in subsections:
                _fail_unknown("section", key, where, subsections)
            _check_section(value, (*section, key), known, file)
        elif key.replace("_", "-") not in keys:
            _fail_unknown("key", key, where, keys)
        else:
            parameter = keys[key.replace("_", "-")]
            try:
                _setting(key, value, parameter)
            except ValueError as error:
                fail(f"{key} in {where}: {error}", EXIT_USAGE)


def _fail_unknown(kind: str, key: str, where: str, known: Any) -> None:
    names = ", ".join(sorted(known))
    fail(f"there is no {kind} {key!r} in {where}; known are {names or 'none'}", EXIT_USAGE)


# ---- keys and options ----


def _commands(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], list[Any]]:
    """The parameters of each command that reads the file, by its words."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for name, command in group.commands.items():
        words = (*path, name)
        if hasattr(command, "commands"):
            found |= _commands(command, words)
        elif name not in _NO_FILE:
            found[words] = [each for each in command.params if each.name not in _OWN]
    return found


def _sections_of(context: typer.Context) -> tuple[str, ...]:
    names: list[str] = []
    each: Any = context
    while each.parent is not None:
        names.insert(0, str(each.info_name))
        each = each.parent
    return tuple(names)


def _keys(parameter: Any, *, is_root: bool) -> Iterator[str]:
    """What a parameter is called in the file.

    Above all sections, a key is as a variable: it holds for the commands that read ``DTBRIDGE_KEY``
    and for no other option of that name.
    """
    if is_root:
        key = str(parameter.envvar or "").removeprefix("DTBRIDGE_").lower().replace("_", "-")
    elif parameter.param_type_name == "option":
        key = parameter.opts[0].lstrip("-")
    else:
        key = parameter.name.replace("_", "-")
    if key:
        yield key
        if _is_secret(parameter):
            yield key + _FROM_FILE


_FROM_FILE: Final = IN_FILE.lower().replace("_", "-")


def _is_secret(parameter: Any) -> bool:
    return getattr(parameter.callback, "__wrapped__", None) is file_variable


def _settings(
    held: Mapping[str, Any],
    sections: tuple[str, ...],
    parameters: list[Any],
    *,
    is_root: bool,
    file: str,
) -> Iterator[_Setting]:
    """What these keys mean for one command. They have been checked."""
    by_key = {key: each for each in parameters for key in _keys(each, is_root=is_root)}
    said: dict[str, str] = {}
    for key, value in held.items():
        parameter = by_key.get(key.replace("_", "-"))
        if parameter is None or isinstance(value, dict):
            continue
        setting = _setting(key, value, parameter)
        if setting.name in said:
            fail(
                f"{said[setting.name]} and {key} in {file} say the same of "
                f"`dtbridge {' '.join(sections)}`: leave one out",
                EXIT_USAGE,
            )
        said[setting.name] = key
        yield setting


def _setting(key: str, value: Any, parameter: Any) -> _Setting:
    """A value as the command line would have it. Raises ValueError for one of another kind."""
    is_flag = bool(getattr(parameter, "is_flag", False))
    several = bool(getattr(parameter, "multiple", False)) or parameter.nargs == -1
    if is_flag:
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return _Setting(parameter.name, value)
    values = value if isinstance(value, list) and several else [value]
    if not all(
        isinstance(each, str | int | float) and not isinstance(each, bool) for each in values
    ):
        raise ValueError("expected a text or a number" + (", or a list of them" if several else ""))
    texts = [str(each) for each in values]
    if key.replace("_", "-").endswith(_FROM_FILE) and _is_secret(parameter):
        texts = [f"{FROM_FILE}{text}" for text in texts]
    return _Setting(parameter.name, texts if several else texts[0])
