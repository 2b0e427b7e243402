"""What the README shows works as it is written there."""

import asyncio
import json
import re
import shlex
from pathlib import Path

from tests.acceptance.command import SCRIPT, dtbridge
from tests.integration.raw_station import raw_station
from tests.integration.support import ROOT, GatewayProcess, WorkerProcess

TARIFF = {"status": "Accepted", "data": {"currency": "EUR", "energyPrice": 0.49}}
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in their order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for tag, text in fenced if tag == language]


def commands() -> list[list[str]]:
    """Every dtbridge command shown, without its comment."""
    lines = "".join(blocks("sh")).splitlines()
    shown = [shlex.split(line, comments=True) for line in lines if line.startswith("dtbridge ")]
    return [words for words in shown if words[1] != "new"]  # test_new.py runs it


def test_the_first_handler_can_be_checked_run_and_asked(tmp_path: Path, amqp_url: str) -> None:
    package = tmp_path / "my_vendors"
    package.mkdir()
    (package / "acme.py").write_text(blocks("python")[0])
    check, run, gateway, send = (command[1:] for command in commands())
    checked = dtbridge(*check, folder=tmp_path, command=SCRIPT)
    assert checked.returncode == 0, checked.stderr
    assert "GetTariff" in checked.stdout
    target = run[1]
    assert target == "my_vendors.acme:router"
    with WorkerProcess(target, amqp_url, folder=tmp_path):
        sent = dtbridge(*send, settings={"DTBRIDGE_AMQP_URL": amqp_url}, command=SCRIPT)
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout) == TARIFF
        assert gateway[:3] == ["gateway", "--listen", ":9000"]
        with GatewayProcess(amqp_url) as process:
            assert asyncio.run(asked_by_a_station(process.url)) == TARIFF


async def asked_by_a_station(url: str) -> object:
    async with raw_station(f"{url}/CP001") as station:
        request = {"vendorId": "com.acme", "messageId": "GetTariff", "data": {"connectorId": 1}}
        return (await station.call("DataTransfer", request))[2]
