"""The demo's output: plain lines in a file, an aligned table on a terminal."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from bridge.demo.corpus import COMMANDS, CORPUS, Message
from bridge.demo.screen import Phase, Result, Screen
from bridge.demo.verdict import Outcome

ACCEPTED = Outcome("Accepted", is_error=False, detail='{"a":1}', fits=True)
WRONG = Outcome("InternalError", is_error=True, detail="failed", fits=False)
GATEWAY_INFO = next(message for message in CORPUS if message.name == "gatewayInfo")


def result(message: Message, outcome: Outcome, seconds: float) -> Result:
    return Result(message, message.ocpp_version, message.payload, outcome, seconds)


def shown(results: list[Result], *, terminal: bool, width: int = 100) -> list[str]:
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=terminal, color_system=None, width=width, highlight=False
    )
    screen = Screen(console)
    screen.head()
    for result in results:
        screen.row(result)
    return output.getvalue().splitlines()


def test_a_plain_line_tells_it_all() -> None:
    (line,) = shown([result(GATEWAY_INFO, ACCEPTED, 0.00123)], terminal=False)
    assert line.startswith("EN-0A42F1  EN+  gatewayInfo  1.6  ")
    assert line.endswith('->  Accepted {"a":1}  1.2 ms')


def test_a_plain_line_says_when_the_answer_is_wrong() -> None:
    (line,) = shown([result(GATEWAY_INFO, WRONG, 0.5)], terminal=False)
    assert line.endswith("CALLERROR InternalError failed  500.0 ms  NOT THE EXPECTED ANSWER")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_row_of_the_table_takes_one_line_of_the_same_width(width: int) -> None:
    results = [result(message, ACCEPTED, 0.001) for message in CORPUS]
    results += [
        Result(command, "ocpp1.6", b'{"vendorId":"v"}', ACCEPTED, 0.001) for command in COMMANDS
    ]
    lines = shown(results, terminal=True, width=width)
    assert len(lines) == 1 + len(CORPUS) + len(COMMANDS)
    assert {cell_len(line) for line in lines} == {width}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_summary_of_nothing_but_the_corpus(terminal: bool) -> None:
    output = io.StringIO()
    corpus = Phase("corpus", [result(GATEWAY_INFO, ACCEPTED, 0.001)], 0.001)
    with Screen(
        Console(file=output, force_terminal=terminal, color_system=None, width=100)
    ) as screen:
        screen.summary([corpus, Phase("burst", [], 0.0)])
    assert "1.0 ms" in output.getvalue()
    assert "burst" not in output.getvalue()


def test_the_summary_counts_answers_by_kind() -> None:
    output = io.StringIO()
    results = [result(GATEWAY_INFO, ACCEPTED, 0.001)] * 3 + [result(GATEWAY_INFO, WRONG, 0.003)]
    Screen(Console(file=output, width=100)).summary(
        [Phase("corpus", results, 1.0), Phase("burst", results, 2.0, is_burst=True)]
    )
    lines = [line.split() for line in output.getvalue().splitlines()]
    assert ["requests", "8"] in lines
    assert ["Accepted", "6"] in lines
    assert ["CALLERROR", "InternalError", "2"] in lines
    assert ["burst", "p50", "1.0", "ms,", "p95", "2.7", "ms,", "2", "requests/s"] in lines
