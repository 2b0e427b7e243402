"""What Prometheus is asked: the dashboard's queries, and the expressions of the rules."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
RULES: Final = PROMETHEUS / "rules.yml"
RULES_TEST: Final = PROMETHEUS / "rules_test.yml"
GRAFANA: Final = ROOT / "deploy" / "grafana"
DASHBOARD: Final = GRAFANA / "dashboards" / "datatransfer-bridge.json"

_SELECTOR: Final = re.compile(
    r"(?<![\w:\"])((?:dtbridge|rabbitmq|process)_\w+|ALERTS|up|[a-z_]+:[a-z_]+:\w+)(?![\w:(\"])"
    r'(\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?'
)
"""A name of ours, of RabbitMQ or of Prometheus, and what its labels must be."""


class Query(NamedTuple):
    """One query of the dashboard."""

    panel: str
    legend: str
    expression: str
    """With the variables that Grafana fills in."""


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of a kind, ``alert`` or ``record``."""
    return [rule for group in yaml(RULES)["groups"] for rule in group["rules"] if kind in rule]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """The panels that show something; rows are headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[Query]:
    return [
        Query(panel["title"], target["legendFormat"], target["expr"])
        for panel in panels()
        for target in panel["targets"]
    ]


def filled_in(expression: str, interval: str) -> str:
    """A query as Grafana sends it when all vendors and instances are chosen."""
    for variable in ("vendor", "instance"):
        expression = expression.replace(f"${variable}", ".*")
    return expression.replace("$__rate_interval", interval)


def selectors(expression: str) -> Iterator[str]:
    """The selectors of series in an expression, without their ranges and offsets."""
    labels_of_clauses = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    for name, labels in _SELECTOR.findall(re.sub(labels_of_clauses, " ", expression)):
        yield name + labels
