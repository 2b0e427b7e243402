"""Where a process listens."""

import pytest

from bridge.cli.addresses import parse_listen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("localhost:0", ("localhost", 0)),
        (":9000", (None, 9000)),
        ("[::]:9000", ("::", 9000)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str | None, int]) -> None:
    assert parse_listen(text) == expected


NONE = """
9000 localhost localhost: localhost:http localhost:99999 localhost:-1
::1:9000 [::1] [x]:1 [localhost]:1
ws://localhost:9000 localhost:9000/ocpp a@localhost:9000
"""


@pytest.mark.parametrize("text", ["", "local host:9000", *NONE.split()])
def test_anything_else_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT, for example"):
        parse_listen(text)
