"""Every block of code in README.md and docs/ is run, or read by what would read it."""

import asyncio
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from ruamel.yaml import YAML

import bridge
from bridge.cli.config_file import check
from bridge.cli.main import application
from bridge.testing import TestBridge
from tests import shown_commands, shown_programs
from tests.documents import ROOT, Block, blocks, documents
from tests.monitoring.expressions import selectors
from website.sequence import drawn

PAGES: Final = {
    str(path.relative_to(ROOT)): [*blocks(path)] for path in documents() if [*blocks(path)]
}


def shell(block: Block) -> None:
    if block.language == "sh":
        shown_commands.is_shell(block.text)
    for line in shown_commands.lines(block.text):
        for words in shown_commands.commands(line):
            shown_commands.is_known(words)


def toml(block: Block) -> None:
    held = tomllib.loads(block.text)
    if held.keys() & {"run", "gateway", "dead"}:
        check(held, typer.main.get_command(application()), str(block))
    else:
        assert held


def yaml(block: Block) -> None:
    assert isinstance(YAML(typ="safe").load(block.text), dict | list)


def json_lines(block: Block) -> None:
    """One value, or one in each line."""
    try:
        json.loads(block.text)
    except ValueError:
        for line in block.text.splitlines():
            json.loads(line)


def dockerfile(block: Block) -> None:
    """`make lint` has hadolint read them, and test_image.py follows one."""
    instructions = {line.split()[0] for line in block.text.splitlines() if line}
    known = {"FROM", "COPY", "RUN", "USER", "ENV", "WORKDIR", "ARG", "CMD", "ENTRYPOINT"}
    assert instructions <= known, instructions - known
    assert "FROM" in instructions


def promql(block: Block) -> None:
    """Each expression asks for series that docs/metrics.md has."""
    metrics = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for expression in re.sub("^#.*$", "", block.text, flags=re.MULTILINE).split("\n\n"):
        names = [re.split("[{]", selector)[0] for selector in selectors(expression)]
        assert names or not expression.strip()
        for name in names:
            family = re.sub("_(bucket|count|sum)$", "", name)
            assert f"`{family}`" in metrics, name


def ini(block: Block) -> None:
    for line in block.text.splitlines():
        assert re.fullmatch(r"[\w.$]+ = \S.*|#.*|", line), line


def sql(block: Block) -> None:
    """PostgreSQL itself reads none here: each statement begins as one, and ends."""
    statements = [text.strip() for text in re.sub("--.*", "", block.text).split(";")]
    assert statements.pop() == ""
    for text in statements:
        assert re.match("(?i)(create|alter|insert|update|delete|select|grant|begin|commit)", text)
        assert text.count("(") == text.count(")")


def diff(block: Block) -> None:
    assert all(line[:1] in {"", " ", "+", "-", "@"} for line in block.text.splitlines())
    assert re.search("^[+-]", block.text, re.MULTILINE)


def text(block: Block) -> None:
    """Drawings, and what commands print: compared where the note before it says with what.

    ``<!-- printed by: tests/… -->`` names the test that has it printed.
    """
    if block.note.startswith("printed by: "):
        path, _, name = block.note.removeprefix("printed by: ").partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name}(" in source, block.note
    assert block.text.strip(), "it is empty"


RULES: Final[dict[str, Callable[[Block], object]]] = {
    "console": shell,
    "diff": diff,
    "dockerfile": dockerfile,
    "ini": ini,
    "json": json_lines,
    "mermaid": lambda block: drawn(block.text),
    "promql": promql,
    "sh": shell,
    "sql": sql,
    "text": text,
    "toml": toml,
    "yaml": yaml,
}
"""By the language of a block. Python is for the pages as a whole."""


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_what_it_says(page: str) -> None:
    for block in PAGES[page]:
        assert block.language in RULES or block.language == "python", f"{block}: no rule for it"
        if block.language != "python":
            try:
                RULES[block.language](block)
            except Exception as error:
                raise AssertionError(f"{block}: {str(error) or type(error).__name__}") from error


@pytest.mark.parametrize(
    "page", [name for name, held in PAGES.items() if any(b.language == "python" for b in held)]
)
def test_python_runs_and_knows_its_names(page: str, tmp_path: Path) -> None:
    programs = [block for block in PAGES[page] if block.language == "python"]
    assert shown_programs.unknown_names(programs) == ""
    shown_programs.run(programs, tmp_path)


async def test_the_client_of_its_page_asks_and_is_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Not only at import: in a whole bridge, in both directions."""
    [program] = [each for each in PAGES["docs/client.md"] if each.language == "python"]
    [handlers] = [each for each in PAGES["README.md"] if each.language == "python"]
    router = shown_programs.run([handlers], tmp_path)["router"]
    main = shown_programs.run([program], tmp_path)["main"]
    async with TestBridge(router) as whole, whole.station("CP001") as station:
        monkeypatch.setitem(
            main.__globals__,
            "Client",
            lambda url, timeout: bridge.Client(transport=whole.transport(), timeout=timeout),
        )
        await asyncio.wait_for(main(), 5)
    assert capsys.readouterr().out == "0.49\n"
    assert [request.data for request in station.received] == ["Hello"]


# ---- the rules find what they are for ----


def block(language: str, text: str, note: str = "") -> Block:
    return Block(ROOT / "README.md", 1, language, text, note)


@pytest.mark.parametrize(
    ("language", "wrong", "told"),
    [
        ("sh", "dtbridge run my:router --no-such-option", "No such option"),
        ("sh", "dtbridge rnu my:router", "no command rnu"),
        ("sh", "dtbridge run my:router --prefetch many", "valid integer"),
        ("sh", "dtbridge run my:router --dialect klingon", "'klingon' is not one of"),
        ("sh", "make nothing", "nothing"),
        ("sh", "pip install 'datatransfer-bridge[nothing]'", "nothing"),
        ("sh", "python -m bridge.nothing", "bridge.nothing"),
        ("sh", "docker compose run --rm nobody send", "nobody"),
        ("sh", "rabbitmqctl make_coffee", "make_coffee"),
        ("sh", "some-program --that nobody knows", "no rule knows"),
        ("sh", "echo 'no end", "unexpected EOF"),
        ("console", "$ dtbridge run --no-such-option\nsome output", "No such option"),
        ("toml", "[run]\nno-such-key = 1", "2"),
        ("toml", "[run]\nprefetch = [1]", "2"),
        ("yaml", "a: [b", "flow sequence"),
        ("json", "{'a': 1}", "property name"),
        ("dockerfile", "FORM python", "FORM"),
        ("promql", "rate(dtbridge_nothing_total[5m])", "dtbridge_nothing_total"),
        ("ini", "no value", "no value"),
        ("text", "", "empty"),
        ("mermaid", "sequenceDiagram\n  A->>B: nobody has told of A", "no participant A"),
    ],
)
def test_what_is_wrong_in_a_block_is_found(language: str, wrong: str, told: str) -> None:
    rule = RULES[language]
    with pytest.raises(Exception, match=re.escape(told)):  # of whatever library reads it
        rule(block(language, wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        "from bridge import Nobody",
        "router = Router('com.acme')",
        "import asyncpg.nothing as a\nimport no_such_library",
        'from bridge import Router\n@Router("x").on()\nasync def f(data, call): ...',
    ],
)
def test_what_is_wrong_in_a_program_is_found(wrong: str, tmp_path: Path) -> None:
    with pytest.raises((ImportError, NameError, bridge.HandlerError)):
        shown_programs.run([block("python", wrong)], tmp_path)


def test_a_name_that_only_a_body_uses_is_found() -> None:
    program = block("python", "def f() -> None:\n    print(nobody)")
    assert "F821" in shown_programs.unknown_names([program])
    noted = block("python", program.text, "needs: nobody = 1")
    assert shown_programs.unknown_names([noted]) == ""


def test_files_of_a_page_import_each_other(tmp_path: Path) -> None:
    first = block("python", "# my_vendors/one.py\nONE = 1\n")
    second = block("python", "from my_vendors.one import ONE\nTWO = ONE + 1\n")
    names: dict[str, Any] = shown_programs.run([first, second], tmp_path)
    assert names["TWO"] == 2
