"""The headline as a picture: bars, in plain SVG."""

from collections.abc import Sequence
from html import escape

from tests.bench.machine import Machine
from tests.bench.subjects import Cast, Job
from tests.bench.tables import Row, Table

WIDTH = 860
LEFT = 200
BAR = 22
GAP = 10
PANEL_GAP = 56
TOP = 78
OURS, OTHERS = "#0b7285", "#adb5bd"
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#343a40}.title{font-size:17px;font-weight:600}"
    ".heading{font-weight:600}.value{fill:#495057}.small{font-size:11px;fill:#868e96}"
)
PANELS = (
    ("rate", "Round trips per second, 200 outstanding (more is better)", "{:,.0f}", 1),
    ("cpu_us", "Worker CPU per round trip, µs (less is better)", "{:,.1f}", 1),
    ("lone_p50_us", "Median latency at one outstanding, ms (less is better)", "{:,.2f}", 1000),
)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.1f}" height="{height:.0f}" {style}/>'


def _bar(y: float, title: str, length: float, value: str, colour: str) -> list[str]:
    length = max(length, 1)
    return [
        _text(LEFT - 10, y + BAR * 0.72, title, 'text-anchor="end"'),
        _rectangle(LEFT, y, length, BAR, f'rx="2" fill="{colour}"'),
        _text(LEFT + length + 8, y + BAR * 0.72, value, 'class="value"'),
    ]


def _panel(
    y: float, rows: Sequence[Row[Job]], cast: Cast, panel: tuple[str, str, str, int]
) -> list[str]:
    number, heading, pattern, divisor = panel
    values = {row.entry.label: getattr(row.median, number) / divisor for row in rows}
    scale = (WIDTH - LEFT - 110) / max(values.values())
    parts = [_text(LEFT, y, heading, 'class="heading"')]
    for index, row in enumerate(rows):
        value = values[row.entry.label]
        colour = OURS if row.entry.subject.startswith("bridge") else OTHERS
        title = cast.subjects[row.entry.subject].title
        parts += _bar(
            y + 12 + index * (BAR + GAP), title, value * scale, pattern.format(value), colour
        )
    return parts


def draw(table: Table[Job], machine: Machine, cast: Cast) -> str:
    """The SVG of a scenario whose rows were all measured under a steady load."""
    rows = [row for row in table.rows if row.median and row.failure is None]
    panel_height = 12 + len(rows) * (BAR + GAP) + PANEL_GAP
    height = TOP + len(PANELS) * panel_height - PANEL_GAP + 20
    label = f'role="img" aria-label="{escape(table.scenario.title)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {label}>',
        f"<style>{STYLE}</style>",
        _rectangle(0, 0, WIDTH, height, 'fill="#ffffff"'),
        _text(20, 28, table.scenario.title, 'class="title"'),
        _text(20, 46, str(machine), 'class="small"'),
    ]
    for index, panel in enumerate(PANELS):
        parts += _panel(TOP + index * panel_height, rows, cast, panel)
    return "\n".join([*parts, "</svg>", ""])
