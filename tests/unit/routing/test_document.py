"""The examples of docs/handlers.md mean what the page says of them."""

import re
from pathlib import Path
from typing import Any

import pytest

from bridge import Call, HandlerError, RetryPolicy, Router

PAGE = (Path(__file__).parents[3] / "docs" / "handlers.md").read_text()


def test_the_first_example_runs_as_it_stands() -> None:
    block = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {"__name__": "acme"}
    exec(compile(block[1], "docs/handlers.md", "exec"), names)
    assert isinstance(names["router"], Router)


async def set_tariff(data: dict[str, str], call: Call) -> None: ...


def test_the_sentence_for_swapped_parameters_is_what_is_raised() -> None:
    """As of a module that is called acme, with a Struct."""
    handler: Any = set_tariff
    with pytest.raises(HandlerError) as caught:
        Router("com.acme").on("SetTariff")(handler)
    said = str(caught.value).replace(f"{__name__}.", "acme.").replace("dict[str, str]", "Tariff")
    assert f"```text\n{said}\n```" in PAGE


async def _any(call: Call) -> None: ...


def test_the_example_of_a_handlers_own_policy_adds_to_what_means_retry() -> None:
    found = re.search(r'@router\.on\("SetTariff", retry=(RetryPolicy\(.*\))\)\n', PAGE)
    assert found is not None
    router = Router("v", retry=RetryPolicy(on=(ConnectionError,)))
    router.on("SetTariff", retry=eval(found[1], {"RetryPolicy": RetryPolicy}))(_any)
    [(_, handler)] = router.handlers()
    assert handler.retry == RetryPolicy(attempts=3, first=0.5, on=(LookupError, ConnectionError))


@pytest.mark.parametrize("value", ["json", "console", "auto", "none"])
def test_every_form_of_log_lines_is_on_the_page_of_settings(value: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith("| `--log-format` |")]
    assert f"`{value}`" in row
