"""The dashboard as a picture, in plain SVG: Grafana's layout, and what Prometheus answers."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from tests.monitoring.prometheus import Series

COLUMN, LINE = 50, 27
"""Pixels of a column and of a line of Grafana's grid, which has 24 columns."""
GAP = 6
MARGIN = 20
TOP = 58
LEGEND = 4
"""Series that are named; those with the highest values."""
COLOURS: Final = (
    *("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c"),
    *("#1864ab", "#e67700", "#868e96", "#862e9c", "#66a80f"),
)
STATES: Final = {"green": "#2b8a3e", "yellow": "#e67700", "red": "#c92a2a"}
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#343a40}.title{font-size:18px;font-weight:600}"
    ".row{font-size:15px;font-weight:600}.heading{font-weight:600}.small{font-size:10px;fill:#868e96}"
    ".value{font-size:26px;font-weight:600}"
)

Drawn = Sequence[tuple[str, Series]]
"""The series of a panel, each with its name."""


def named(legend: str, series: Series) -> str:
    """A legend as Grafana fills it in."""
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: series.labels.get(match[1], ""), legend)
    return re.sub(r"\s+", " ", text).replace("127.0.0.1", "localhost").strip()


def shown(value: float, unit: str) -> str:
    """A value with its unit, for people."""
    match unit:
        case "percentunit":
            return f"{100 * value:.3g} %"
        case "s" if value >= 86_400:
            return f"{value / 86_400:.3g} days"
        case "s" if value >= 120:
            return f"{value / 60:.3g} min"
        case "s" if 0 < value < 1:
            return f"{1000 * value:.3g} ms"
        case "s":
            return f"{value:.3g} s"
        case "bytes":
            return f"{value / 2**20:.3g} MiB"
        case "reqps":
            return f"{value:.3g} /s"
        case _:
            return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(
    panels: Sequence[Mapping[str, Any]],
    found: Mapping[int, Drawn],
    span: tuple[float, float],
    note: str,
) -> str:
    """The SVG. `found`: what there is to draw, by panel. `span`: the times at left and right."""
    last = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = 24 * COLUMN + 2 * MARGIN, TOP + last * LINE + MARGIN
    label = 'role="img" aria-label="The dashboard of DataTransfer Bridge"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {label}>',
        f"<style>{STYLE}</style>",
        _rectangle(0, 0, width, height, "#f1f3f5"),
        _text(MARGIN, 28, "DataTransfer Bridge", "title"),
        _text(MARGIN, 46, note, "small"),
    ]
    for panel in panels:
        parts += _panel(panel, found.get(panel["id"], ()), span)
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, style: str = "", more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{style}" {more}>{escape(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, fill: str) -> str:
    place = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<rect {place} rx="2" fill="{fill}"/>'


def _panel(panel: Mapping[str, Any], drawn: Drawn, span: tuple[float, float]) -> list[str]:
    place = panel["gridPos"]
    x, y = MARGIN + place["x"] * COLUMN, TOP + place["y"] * LINE
    if panel["type"] == "row":
        return [_text(x, y + LINE - 9, panel["title"], "row")]
    width, height = place["w"] * COLUMN - GAP, place["h"] * LINE - GAP
    parts = [
        _rectangle(x, y, width, height, "#ffffff"),
        _text(x + 8, y + 17, panel["title"], "heading"),
    ]
    if not drawn:
        return [*parts, _text(x + 8, y + 40, "nothing", "small")]
    kind = {"stat": _stat, "bargauge": _bars, "timeseries": _lines}[panel["type"]]
    return parts + kind(panel, drawn, span, (x + 8, y + 26, width - 16, height - 34))


Box = tuple[float, float, float, float]
"""Left, top, width and height of what is drawn into."""


def _colour(panel: Mapping[str, Any], value: float) -> str:
    """Of the threshold that a value has passed."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    passed = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return STATES[passed[-1]]


def _stat(panel: Mapping[str, Any], drawn: Drawn, _: object, box: Box) -> list[str]:
    left, top, *_rest = box
    value = drawn[0][1].points[-1][1]
    text = shown(value, panel["fieldConfig"]["defaults"]["unit"])
    return [_text(left, top + 36, text, "value", f'style="fill:{_colour(panel, value)}"')]


def _bars(panel: Mapping[str, Any], drawn: Drawn, _: object, box: Box) -> list[str]:
    left, top, width, height = box
    unit = panel["fieldConfig"]["defaults"]["unit"]
    rows = sorted(drawn, key=lambda each: -each[1].points[-1][1])[:8]
    step = min(height / len(rows), 24)
    parts = []
    for number, (name, series) in enumerate(rows):
        value = series.points[-1][1]
        at = top + number * step
        length = max(1.0, min(value, 1.0) * (width - 190))
        parts += [
            _text(left + 120, at + 12, name, "small", 'text-anchor="end"'),
            _rectangle(left + 126, at + 3, length, 11, _colour(panel, value)),
            _text(left + 132 + length, at + 12, shown(value, unit), "small"),
        ]
    return parts


def _lines(
    panel: Mapping[str, Any], drawn: Drawn, span: tuple[float, float], box: Box
) -> list[str]:
    left, top, width, height = box
    units = [_unit(panel, name) for name, _ in drawn]
    ranked = sorted(
        zip(drawn, units, strict=True), key=lambda each: -max(v for _, v in each[0][1].points)
    )
    scales = {
        unit: max(value for (_, series), its in ranked if its == unit for _, value in series.points)
        for unit in units
    }
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    below: dict[float, float] = {}
    if stacked:
        for (_, series), _unit_of in ranked:
            for when, value in series.points:
                below[when] = below.get(when, 0.0) + value
        scales = dict.fromkeys(units, max(below.values()))
        below = {}
    legend = 13 * min(len(ranked), LEGEND)
    floor = top + height - legend - 6
    room = floor - top - 8
    parts = [
        f'<path d="M{left:.0f} {floor:.0f}h{width:.0f}" stroke="#ced4da" fill="none"/>',
        _text(left, top + 6, " · ".join(shown(scale, u) for u, scale in scales.items()), "small"),
    ]
    for number, ((name, series), unit) in enumerate(ranked):
        colour = COLOURS[number % len(COLOURS)]
        scale = scales[unit] or 1.0
        path = []
        for when, value in series.points:
            total = value + below.get(when, 0.0)
            if stacked:
                below[when] = total
            across = left + (when - span[0]) / (span[1] - span[0]) * width
            path.append(f"{across:.1f} {floor - total / scale * room:.1f}")
        if len(path) == 1:  # something that was there for a moment
            path.append(path[0])
        parts.append(
            f'<path d="M{"L".join(path)}" stroke="{colour}" stroke-width="1.3"'
            ' stroke-linecap="round" fill="none"/>'
        )
        if number < LEGEND:
            at = floor + 14 + 13 * number
            parts += [
                _rectangle(left, at - 7, 10, 3, colour),
                _text(left + 15, at, name or panel["title"], "small"),
            ]
    return parts


def _unit(panel: Mapping[str, Any], name: str) -> str:
    """Of a series, which may have a unit of its own."""
    config = panel["fieldConfig"]
    for override in config["overrides"]:
        if re.search(override["matcher"]["options"], name):
            for each in override["properties"]:
                if each["id"] == "unit":
                    return str(each["value"])
    return str(config["defaults"]["unit"])
