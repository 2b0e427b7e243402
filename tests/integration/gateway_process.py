"""A gateway as a process of its own: a GatewayLink whose stations are coroutines.

Run it as `python -m tests.integration.gateway_process URL NAME`.

It reads commands from standard input, one JSON object a line, and writes to standard output when
each is done: `{"connect": [station ids]}`, `{"disconnect": [station ids]}`, `{"talk": true}` (every
connected station sends requests of its own, one after the other) and `{"report": true}`. At the end
of its input it drains.
"""

import asyncio
import json
import sys
from typing import Any

from bridge import CallError, DataTransferRequest, DataTransferResponse
from bridge.gateway import GatewayLink, NoAnswer
from bridge.telemetry.logs import LogFormat, LogLevel, configure
from bridge.transport import State
from tests.integration.gateways import all_of


class Gateway:
    def __init__(self, link: GatewayLink, name: str) -> None:
        self.link = link
        self.name = name
        self.asked = 0
        """Requests from stations that were answered."""
        self.unanswered = 0
        self.wrong: list[Any] = []
        """Answers that belong to another request."""
        self._talking: dict[str, asyncio.Task[None]] = {}

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        match command:
            case {"connect": stations}:
                await all_of(self._connect, stations)
            case {"disconnect": stations}:
                await all_of(self.link.disconnect_station, stations)
            case {"talk": _}:
                for station_id in self.link._stations:
                    self._talking[station_id] = asyncio.create_task(self._talk(station_id))
            case {"report": _}:
                return {
                    "stations": self.link.stations,
                    "consuming": self.link.state is State.CONSUMING,
                    "asked": self.asked,
                    "unanswered": self.unanswered,
                    "wrong": self.wrong,
                    "in_hand": self.link.in_hand,
                }
        return {}

    async def _connect(self, station_id: str) -> None:
        async def answer(request: DataTransferRequest) -> DataTransferResponse:
            if request.message_id == "refuse":
                raise CallError("SecurityError", "not you", {"why": 1})
            await asyncio.sleep(3600 if request.message_id == "hang" else 0.005)
            return DataTransferResponse("Accepted", [station_id, self.name, request.data])

        await self.link.connect_station(station_id, "ocpp2.0.1", answer)

    async def _talk(self, station_id: str) -> None:
        number = 0
        while True:
            number += 1
            asked = [station_id, self.name, number]
            try:
                answer = await self.link.data_transfer(
                    station_id, "ocpp2.0.1", DataTransferRequest("echo", "m", asked), timeout=10.0
                )
            except NoAnswer:
                self.unanswered += 1
                continue
            self.asked += 1
            if answer.data != [station_id, *asked]:
                self.wrong.append([asked, answer.data])
            await asyncio.sleep(0.01)

    def hang_up(self) -> None:
        for task in self._talking.values():
            task.cancel()


async def main(url: str, name: str) -> None:
    commands = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    async with GatewayLink(url, name=name) as link:
        gateway = Gateway(link, name)
        say({"done": "start"})
        async for line in commands:
            command = json.loads(line)
            say({"done": next(iter(command))} | await gateway.do(command))
        gateway.hang_up()
        await link.drain(5.0)


def say(news: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    configure(LogFormat.AUTO, LogLevel.DEBUG)
    asyncio.run(main(*sys.argv[1:]))
