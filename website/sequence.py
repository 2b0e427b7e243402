"""Draws sequence diagrams as SVG: those of Mermaid's, which GitHub shows, that documents have.

Mermaid itself is a program of three megabytes for the browser. Known here are participants, arrows
(``->>`` and ``-->>``), ``Note over``, and ``alt``, ``else`` and ``end``.
"""

import re
import textwrap
from html import escape
from typing import Final

COLUMN: Final = 230
"""Pixels from one participant to the next."""
LINE: Final = 16
"""Pixels from one line of text to the next."""
CHARACTER: Final = 6.3
"""Pixels of a character, about."""

_PARTICIPANT: Final = re.compile(r"participant (\w+) as (.+)")
_ARROW: Final = re.compile(r"(\w+)(-?->>)(\w+): (.+)")
_NOTE: Final = re.compile(r"Note over (\w+),(\w+): (.+)")
_BRANCH: Final = re.compile(r"(alt|else) (.+)")


class _Drawing:
    def __init__(self) -> None:
        self.columns: dict[str, int] = {}
        """By the name of a participant: where its line is."""
        self.shapes: list[str] = []
        self.depth = 0
        self.y = 50

    def participant(self, name: str, label: str) -> None:
        x = self.columns[name] = COLUMN // 2 + len(self.columns) * COLUMN
        self.shapes.append(
            f'<rect x="{x - 60}" y="8" width="120" height="28" rx="4" class="box"/>'
            f'<text x="{x}" y="27">{escape(label)}</text>'
        )

    def arrow(self, source: str, mark: str, target: str, text: str) -> None:
        begin, end = self._column(source), self._column(target)
        self._write(text, (begin + end) / 2, abs(end - begin) - 16)
        dashes = ' stroke-dasharray="5 4"' if mark == "-->>" else ""
        self.shapes.append(
            f'<line x1="{begin}" y1="{self.y}" x2="{end}" y2="{self.y}"{dashes}'
            ' marker-end="url(#tip)"/>'
        )
        self.y += 14

    def note(self, first: str, last: str, text: str) -> None:
        left, right = sorted((self._column(first), self._column(last)))
        begin, end = left - 60, right + 60
        top = self.y + 4
        self.y += 4
        self._write(text, (begin + end) / 2, end - begin - 12)
        self.shapes.append(
            f'<rect x="{begin}" y="{top}" width="{end - begin}" height="{self.y - top + 6}"'
            ' class="note"/>'
        )
        self.y += 14

    def branch(self, kind: str, text: str) -> None:
        if kind == "alt":
            self.depth += 1
        elif not self.depth:
            raise ValueError("else without alt")
        self.y += 8
        right = len(self.columns) * COLUMN - 8
        self.shapes.append(
            f'<line x1="8" y1="{self.y}" x2="{right}" y2="{self.y}" class="branch"/>'
            f'<text x="12" y="{self.y + 14}" class="label">{kind}: {escape(text)}</text>'
        )
        self.y += 18

    def end(self) -> None:
        if not self.depth:
            raise ValueError("end without alt")
        self.depth -= 1
        self.y += 8
        right = len(self.columns) * COLUMN - 8
        self.shapes.append(
            f'<line x1="8" y1="{self.y}" x2="{right}" y2="{self.y}" class="branch"/>'
        )

    def _column(self, name: str) -> int:
        if name not in self.columns:
            raise ValueError(f"no participant {name}")
        return self.columns[name]

    def _write(self, text: str, x: float, width: float) -> None:
        for part in text.split("<br/>"):
            for line in textwrap.wrap(
                part, max(int(width / CHARACTER), 10), break_on_hyphens=False
            ):
                self.y += LINE
                self.shapes.append(f'<text x="{x:g}" y="{self.y}">{escape(line)}</text>')
        self.y += 6

    def svg(self) -> str:
        height = self.y + 16
        lines = "".join(
            f'<line x1="{x}" y1="36" x2="{x}" y2="{height - 8}" class="life"/>'
            for x in self.columns.values()
        )
        width = len(self.columns) * COLUMN
        return (
            f'<svg class="sequence" role="img" viewBox="0 0 {width} {height}"'
            ' xmlns="http://www.w3.org/2000/svg"><defs><marker id="tip" viewBox="0 0 8 8" refX="8"'
            ' refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="currentColor" stroke="none"/></marker></defs>'
            f"{lines}{''.join(self.shapes)}</svg>"
        )


def drawn(text: str) -> str:
    """The diagram. Raises ValueError for what is none that is known here."""
    first, *lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if first != "sequenceDiagram":
        raise ValueError(f"not a sequence diagram: {first}")
    drawing = _Drawing()
    for line in lines:
        if match := _PARTICIPANT.fullmatch(line):
            drawing.participant(*match.groups())
        elif match := _ARROW.fullmatch(line):
            drawing.arrow(*match.groups())
        elif match := _NOTE.fullmatch(line):
            drawing.note(*match.groups())
        elif match := _BRANCH.fullmatch(line):
            drawing.branch(*match.groups())
        elif line == "end":
            drawing.end()
        else:
            raise ValueError(f"not known: {line}")
    if drawing.depth:
        raise ValueError("alt without end")
    return drawing.svg()
