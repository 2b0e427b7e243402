"""The examples of docs/handlers.md mean what the page says of them."""

import re
from pathlib import Path
from typing import Any

import pytest

from bridge import RetryPolicy, Router

PAGE = (Path(__file__).parents[3] / "docs" / "handlers.md").read_text()


def test_the_first_example_runs_as_it_stands() -> None:
    block = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {"__name__": "acme"}
    exec(compile(block[1], "docs/handlers.md", "exec"), names)
    assert isinstance(names["router"], Router)


def test_the_example_of_a_handlers_own_policy_says_again_what_means_retry() -> None:
    found = re.search(r'@router\.on\("SetTariff", retry=(RetryPolicy\(.*\))\)\n', PAGE)
    assert found is not None
    policy = eval(found[1], {"RetryPolicy": RetryPolicy, "ConnectionError": ConnectionError})
    assert policy.on == (ConnectionError,)


@pytest.mark.parametrize("value", ["json", "console", "auto", "none"])
def test_every_form_of_log_lines_is_on_the_page_of_settings(value: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith("| `--log-format` |")]
    assert f"`{value}`" in row
