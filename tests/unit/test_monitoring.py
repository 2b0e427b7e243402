"""Alerts, dashboard and runbook agree with each other, with the metrics and with the commands.

`make lint` has promtool check what Prometheus reads, and see each alert fire.
tests/acceptance/test_monitoring.py asks a real Prometheus.
"""

import re
import shlex
from itertools import combinations
from typing import Any

import pytest
import typer

from bridge.cli.main import application
from tests.monitoring.expressions import (
    DASHBOARD,
    GRAFANA,
    PROMETHEUS,
    ROOT,
    RULES_TEST,
    dashboard,
    panels,
    queries,
    rules,
    selectors,
    yaml,
)

RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ALERTS = {rule["alert"]: rule for rule in rules("alert")}
COMMANDS = typer.main.get_group(application())
EXPRESSIONS: dict[str, str] = {
    **{f"{query.panel}: {query.legend}": query.expression for query in queries()},
    **{str(rule.get("alert", rule.get("record"))): rule["expr"] for rule in rules("expr")},
}


# ---- alerts ----


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "$value" in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"


def test_each_alert_has_its_section_in_the_runbook_and_each_section_its_alert() -> None:
    sections = re.findall(r"^### (DataTransfer\w+)\n\n(\w+)\.\n", RUNBOOK, re.MULTILINE)
    severities = {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}
    assert {name: word.lower() for name, word in sections} == severities
    assert len(sections) == len(severities)


def test_each_alert_is_seen_firing_and_silent() -> None:
    """In rules_test.yml."""
    asked = [
        (each["alertname"], bool(each["exp_alerts"]))
        for test in yaml(RULES_TEST)["tests"]
        for each in test["alert_rule_test"]
    ]
    for fires in (True, False):
        assert {name for name, fired in asked if fired is fires} == ALERTS.keys()


def test_the_alert_about_targets_knows_all_jobs() -> None:
    jobs = [job["job_name"] for job in yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]]
    pattern = re.search(r'job=~"([^"]+)"', ALERTS["DataTransferTargetDown"]["expr"])
    assert pattern is not None
    assert [job for job in jobs if re.fullmatch(pattern[1], job)] == jobs


def documented() -> set[str]:
    """Our metrics, and what rules have recorded."""
    listed = {
        name
        for row in re.findall(r"^\| (`dtbridge_[^|]+) \|", METRICS, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    return listed | {rule["record"] for rule in rules("record")}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_asks_for_metrics_that_there_are(name: str) -> None:
    asked = [selector.partition("{")[0] for selector in selectors(EXPRESSIONS[name])]
    assert asked
    for metric in asked:
        if "dtbridge" in metric:
            known = documented()
            assert re.sub("_(bucket|count|sum)$", "", metric) in known or metric in known


def test_selectors_are_found_wherever_they_stand() -> None:
    expression = (
        'sum by (vendor, dtbridge_x) (rate(dtbridge_a_total{b="{c}", d=~"$e"}[5m] offset 1h))'
        ' / on (process) vendor:dtbridge_b:rate5m or label_replace(up, "rabbitmq_c", "", "", "")'
    )
    assert list(selectors(expression)) == [
        'dtbridge_a_total{b="{c}", d=~"$e"}',
        "vendor:dtbridge_b:rate5m",
        "up",
    ]


# ---- the dashboard ----


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    sources = [panel["datasource"], *[target["datasource"] for target in panel["targets"]]]
    assert all(source["uid"] == "${datasource}" for source in sources)


def test_panels_have_a_place_and_a_number_of_their_own() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    for one, other in combinations([panel["gridPos"] for panel in every], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in every)


def test_the_variables_are_those_that_the_queries_use() -> None:
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", DASHBOARD.read_text(encoding="utf-8")))
    assert used == defined == {"datasource", "vendor", "instance"}


def test_grafana_is_told_of_the_data_source_and_of_the_dashboards() -> None:
    sources = yaml(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert [source["type"] for source in sources] == ["prometheus"]
    interval = yaml(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert sources[0]["jsonData"]["timeInterval"] == interval
    folder = GRAFANA / "provisioning" / "dashboards"
    [provider] = yaml(folder / "datatransfer-bridge.yml")["providers"]
    assert provider["options"]["path"].endswith(f"/{DASHBOARD.parent.name}")


# ---- the runbook ----


def prose(text: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def command_lines() -> list[str]:
    """The commands of ours in the runbook, those in sentences too if they have arguments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", RUNBOOK, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(dtbridge [^`]+ [^`]+)`", prose(RUNBOOK))
    return sorted({line for line in lines if line.startswith("dtbridge ")})


@pytest.mark.parametrize("line", command_lines())
def test_a_command_of_the_runbook_is_one_that_there_is(line: str) -> None:
    _, *arguments = shlex.split(line)
    command: Any = COMMANDS
    while hasattr(command, "commands"):
        name = arguments.pop(0)
        assert name in command.commands, line
        command = command.commands[name]
    with command.make_context(command.name, arguments):
        pass
