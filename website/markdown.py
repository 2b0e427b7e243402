"""From CommonMark, in which the documents are written, to the older Markdown that MkDocs reads.

Python-Markdown wants four spaces under every item of a list, and an empty line before each list and
each table.
"""

import re
from collections.abc import Iterator
from typing import Final

_FENCE: Final = re.compile(r" *(`{3,})")
_ITEM: Final = re.compile(r"( *)(?:[*+-]|\d+\.) +(?=\S)")


def lines_and_code(markdown: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it belongs to a block of code between fences."""
    fence = ""
    for line in markdown.split("\n"):
        found = _FENCE.match(line)
        mark = found[1] if found else ""
        yield line, bool(fence or mark)
        if not fence:
            fence = mark
        elif mark == fence:
            fence = ""


def translated(markdown: str) -> str:
    """The same text, as Python-Markdown reads it."""
    done: list[str] = []
    items: list[tuple[int, int]] = []
    """Of each open item: the columns where its mark stands, and where its text begins."""
    before = ""
    for line, is_code in lines_and_code(markdown):
        indent = len(line) - len(line.lstrip())
        begins = None if is_code else _ITEM.match(line)
        ended = set()
        while line.strip() and items and indent < items[-1][1]:
            if is_code and indent > items[-1][0]:
                break
            ended.add(items.pop()[0])
        is_new_list = begins and not items and indent not in ended
        is_new_table = line.lstrip().startswith("|") and not before.lstrip().startswith("|")
        if before.strip() and not is_code and (is_new_list or is_new_table):
            done.append("")
        taken = min(items[-1][1] if items else 0, indent)
        done.append(" " * (4 * len(items)) + line[taken:] if line.strip() else "")
        if begins:
            items.append((indent, begins.end()))
        before = line
    return "\n".join(done)
