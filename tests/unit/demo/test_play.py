"""The demo says in one sentence why it cannot run, and leaves the process as it found it."""

import signal

import pytest

from bridge.demo import run_demo
from bridge.demo.processes import BridgeProcess, ProcessFailed


@pytest.mark.parametrize("url", ["localhost", "http://localhost/", " "])
def test_a_bad_url_is_one_sentence_and_exit_code_1(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(url, count=0, pace=0.0) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "URL" in line


def test_signals_are_handled_as_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_demo("localhost", count=0, pace=0.0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_a_worker_that_does_not_start_shows_its_log() -> None:
    worker = await BridgeProcess("run", "no_such_module:router", settings={}).__aenter__()
    assert "there is no module 'no_such_module'" in str(await worker.ended())
    with pytest.raises(ProcessFailed, match="exit code 2"):
        await worker.__aexit__(None, None, None)
