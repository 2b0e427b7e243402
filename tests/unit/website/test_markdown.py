"""CommonMark as Python-Markdown reads it."""

import pytest

from website.markdown import lines_and_code, translated


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("text\n* one\n* two", "text\n\n* one\n* two"),
        ("1. one\n   goes on\n\n   ```\n   code\n   ```\n2. two", None),
        ("* one\n  * inner\n    goes on\n* two", "* one\n    * inner\n        goes on\n* two"),
        ("text\n| a |\n|---|", "text\n\n| a |\n|---|"),
        ("```\n* no list\n| no table\n```", "```\n* no list\n| no table\n```"),
        ("* one\n\nafter", "* one\n\nafter"),
        ("text\n\n* one", "text\n\n* one"),
    ],
)
def test_lists_and_tables(written: str, read: str | None) -> None:
    expected = "1. one\n    goes on\n\n    ```\n    code\n    ```\n2. two"
    assert translated(written) == (expected if read is None else read)


def test_a_block_ends_with_the_fence_that_it_began_with() -> None:
    lines = [*lines_and_code("a\n````\n```\nb\n````\nc")]
    assert [is_code for _, is_code in lines] == [False, True, True, True, True, False]
