"""Docstrings as the reference shows them (an extension of Griffe).

They are written for whoever reads the source: with Sphinx's roles, columns of names and what they
are, and examples after ``>>>``. A role becomes a link where the reference has its target, and code
where it has not.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any, Final

import griffe

_ROLE: Final = re.compile(r":\w+:`(?:([^`<]+?)\s<)?(~?)\.?([\w.]+)>?`")
"""A role: another text, if it has one; whether the last part alone is shown; and its target."""
_DOUBLE: Final = re.compile(r"``(.+?)``")
_COLUMNS: Final = re.compile(r"\S.*?\S {2,}\S")
_CONSTANT: Final = re.compile(r"[A-Z][A-Z_]*")
_NUMBER: Final = re.compile(r"[\d_.]+")
_EXAMPLE: Final = re.compile(r">>> ?|\.\.\. ?")


class Docstrings(griffe.Extension):
    """Rewrites every docstring of a package, when all of it has been read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """A package has been read, and names can be resolved."""
        for each in _objects(pkg):
            if each.docstring:
                each.docstring.value = as_markdown(inspect.cleandoc(each.docstring.value), each)
            if isinstance(each, griffe.Attribute):
                each.value = _number(each.value, each)
            for parameter in each.parameters if isinstance(each, griffe.Function) else ():
                parameter.default = _number(parameter.default, each)


def _objects(inside: griffe.Object) -> Iterator[griffe.Object]:
    yield inside
    for member in inside.members.values():
        if isinstance(member, griffe.Object):
            yield from _objects(member)


def _number(value: str | griffe.Expr | None, obj: griffe.Object) -> str | griffe.Expr | None:
    """A default as a reader of a signature wants it: of a constant that is a number, the number."""
    if not _CONSTANT.fullmatch(str(value)):
        return value
    try:
        constant = obj.modules_collection[obj.resolve(str(value))]
        return constant.value if _NUMBER.fullmatch(str(constant.value)) else value
    except (griffe.NameResolutionError, griffe.AliasResolutionError, AttributeError, KeyError):
        return value


def as_markdown(text: str, obj: griffe.Object) -> str:
    """A docstring in Markdown."""
    blocks = []
    for block in re.split(r"\n{2,}", text):
        lines = block.split("\n")
        if block.startswith(">>>"):
            code = "\n".join(_EXAMPLE.sub("", line, count=1) for line in lines)
            blocks.append(f"```python\n{code}\n```")
        elif block.startswith(" "):
            blocks.append(block)
        elif len(lines) > 1 and all(_COLUMNS.match(line) for line in lines if line[0] != " "):
            blocks.append("\n".join(_table(lines, obj)))
        else:
            blocks.append(_with_links(block, obj))
    return "\n\n".join(blocks)


def _table(lines: list[str], obj: griffe.Object) -> Iterator[str]:
    """Columns of names and what they are, as a table."""
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith(" "):
            rows[-1][-1] += f" {line.strip()}"
        else:
            rows.append(re.split(r" {2,}", line.strip(), maxsplit=1))
    yield "| | |"
    yield "|---|---|"
    for name, meaning in rows:
        yield f"| {name} | {_with_links(meaning, obj)} |".replace("\\|", "|")


def _with_links(text: str, obj: griffe.Object) -> str:
    text = _DOUBLE.sub(r"`\1`", text)
    return _ROLE.sub(lambda role: _link(role, obj), text)


def _link(role: re.Match[str], obj: griffe.Object) -> str:
    """A reference by a name, as it is meant in `obj`."""
    text, is_short, name = role.groups()
    shown = text or (name.rpartition(".")[2] if is_short else name)
    try:
        target = name if name.startswith("bridge.") else obj.resolve(name)
    except (griffe.NameResolutionError, griffe.AliasResolutionError):
        return f"`{shown}`"
    return f'<autoref identifier="{target}" optional>`{shown}`</autoref>'
