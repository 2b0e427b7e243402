"""Command lines that documents show: whether they could be run so."""

import ast
import functools
import importlib.util
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from typing import Any, Final

import typer
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from bridge.cli.main import application
from tests.documents import ROOT

OTHERS: Final = re.compile(
    r"\.|cat|cd|celery|chmod|cp|curl|diff|echo|export|git|grep|groupadd|initdb|install|journalctl"
    "|kill|ls|mkdir|mv|mypy|node|npm|npx|openssl|pg_ctl|psql|pyright|pytest|rm|ruff|sleep|systemctl"
    "|tar|uvicorn"
)
"""Programs of others: that there is such a command is all that is known of them here."""

RABBITMQ: Final = re.compile(
    "add_user|add_vhost|alarms|change_password|check_if_node_is_quorum_critical"
    "|close_all_connections|cluster_status|delete_user|drain|enable|eval|import_definitions|list"
    "|list_(bindings|connections|exchanges|queues|users)|memory_breakdown|revive"
    "|set_permissions|set_policy|set_topic_permissions|set_user_tags|status"
)
"""Commands of RabbitMQ's programs."""


def lines(text: str) -> Iterator[str]:
    """Each command line of a block for a shell; of one with output (``$ …``) those alone."""
    joined = re.sub(r" *\\\n *", " ", text)
    has_prompts = re.search(r"^\$ ", joined, re.MULTILINE)
    begun = ""
    for line in joined.splitlines():
        if has_prompts and not line.startswith("$ "):
            continue
        begun += line.removeprefix("$ ")
        if _is_whole(begun):
            yield begun
            begun = ""
        else:
            begun += "\n"
    assert not begun, f"no end: {begun}"


def _is_whole(line: str) -> bool:
    """Whether no quotation goes on in the next line."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without variables before it and redirections."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*reader, ";"]:
        if set(word) <= set("<>&|;()") and word.strip("<>"):
            if words:
                yield words
            words = []
        elif word in {"<", ">", ">>"}:
            skip = True
        elif skip:
            skip = False
        elif words or not re.match(r"\w+=", word):
            words.append(word)


def is_known(words: list[str]) -> None:
    """Raises AssertionError, or whatever the command line's own reader raises."""
    program, *rest = words
    given = [word for word in rest if "…" not in word and not word.startswith("[")]
    match program.rpartition("/")[2]:
        case "dtbridge":
            parse(given)
        case "make":
            _make(given)
        case "pip":
            _pip(given)
        case "python" | "python3":
            _python(given)
        case "docker":
            _docker(given)
        case "kubectl":
            for path in re.findall(r"deploy/\S+", " ".join(given)):
                assert (ROOT / path).exists(), path
        case "rabbitmqctl" | "rabbitmq-plugins" | "rabbitmq-diagnostics" | "rabbitmq-upgrade":
            assert RABBITMQ.fullmatch(given[0]), given[0]
        case other:
            assert OTHERS.fullmatch(other), f"no rule knows the program {other}"


def parse(arguments: list[str]) -> None:
    """Read the arguments of dtbridge as it does, but for what is in files."""
    command = _all_commands()
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        assert arguments[0] in command.commands, f"there is no command {arguments[0]}"
        command = command.commands[arguments.pop(0)]
    for parameter in command.params:  # what is in files, or asked for, is not here
        parameter.callback, parameter.prompt, parameter.required = None, None, False
    command.make_context(command.name, list(arguments))


@functools.cache
def _all_commands() -> Any:
    """A tree of our own, which is changed."""
    return typer.main.get_command(application())


def _make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        assert "=" in word or re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE), word


def _pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert words[0] in {"install", "download"}, words
    for word in words[1:]:
        if word.startswith("datatransfer-bridge"):
            assert Requirement(word).extras <= set(project["optional-dependencies"]), word


def _python(words: list[str]) -> None:
    match words:
        case ["-m", module, *_]:
            assert importlib.util.find_spec(module) is not None, module
        case ["-c", program, *_]:
            ast.parse(program)
        case [script, *_] if script.startswith("deploy/"):
            assert (ROOT / script).exists(), script
        case [script, *_]:
            assert script.endswith(".py") or script.startswith("-"), script


def _docker(words: list[str]) -> None:
    services = YAML(typ="safe").load(ROOT / "compose.yaml")["services"]
    plain = [word for word in words if not word.startswith("-")]
    match plain:
        case ["compose", ("run" | "exec"), service, *arguments]:
            assert service in services, service
            if plain[1] == "run":
                parse(words[words.index(service) + 1 :])
            else:
                assert arguments
        case ["compose", ("up" | "down" | "logs" | "ps" | "build"), *_]:
            pass
        case ["run", *_] if any("bridge" in word for word in plain):
            image = next(word for word in plain if "bridge" in word)
            parse(words[words.index(image) + 1 :])
        case ["build", *_]:
            if "-f" in words:
                assert (ROOT / words[words.index("-f") + 1]).exists()
        case [other, *_]:
            assert other in {"run", "pull", "push"}, other


def is_shell(text: str) -> None:
    """Raises AssertionError unless bash can read it."""
    read = subprocess.run(
        ["bash", "-n"], input=text, capture_output=True, text=True, check=False, timeout=10
    )
    assert read.returncode == 0, read.stderr
