"""Whoever has nothing but the document reaches workers, and is reached by the CSMS."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import jsonschema
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from bridge import Client
from bridge.schema.asyncapi import Document, document
from bridge.schema.messages import vendor_messages
from tests.integration.support import NAMES, PATIENCE, working
from tests.unit.schema import workshop

MADE: Document = json.loads(
    json.dumps(
        document(
            vendor_messages([workshop.router], workshop.to_stations),
            title="",
            version="",
            names=NAMES,
        )
    )
)
CORRELATION_ID = "one"


class Author:
    """A gateway by somebody who knows the document alone."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue) -> None:
        self._channel = channel
        self._queue = queue
        self._come: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def listen(self) -> None:
        await self._queue.consume(self._come.put, no_ack=True)

    async def ask(self, operation: str, part: str, data: Any) -> AbstractIncomingMessage:
        """Send a request as its operation says, and await the reply."""
        described = MADE["operations"][operation]
        channel = at(described["channel"]["$ref"])
        [message] = [each for each in messages(described["messages"]) if each["x-ocpp"] == part]
        constants = {
            name: value["const"]
            for name, value in message["payload"]["properties"].items()
            if "const" in value
        }
        version = at(message["headers"]["$ref"])["properties"]["ocpp-version"]["enum"][0]
        properties = {
            name: value["const"]
            for name, value in at(message["x-amqp-properties"]["$ref"])["properties"].items()
            if "const" in value
        }
        exchange = await self._channel.get_exchange(
            channel["bindings"]["amqp"]["exchange"]["name"], ensure=False
        )
        await exchange.publish(
            aio_pika.Message(
                json.dumps(constants | {"data": data}).encode(),
                headers={"ocpp-station-id": "CP001", "ocpp-version": version},
                correlation_id=CORRELATION_ID,
                reply_to=self._queue.name,
                **properties,
            ),
            channel["address"],
        )
        return await self.next()

    async def hold(self, station_key: str) -> None:
        """Have the requests to a station."""
        exchange = MADE["channels"]["stations"]["bindings"]["amqp"]["exchange"]["name"]
        await self._queue.bind(exchange, station_key)

    async def answer(self, request: AbstractIncomingMessage, payload: Any) -> None:
        """Send the payload of a station of OCPP 1.6 where the request says."""
        assert request.reply_to is not None
        await self._channel.default_exchange.publish(
            aio_pika.Message(
                json.dumps(payload).encode(),
                headers={"ocpp-station-id": "CP001", "ocpp-version": "ocpp1.6"},
                content_type="application/json",
                type="DataTransferResponse",
                correlation_id=request.correlation_id,
            ),
            request.reply_to,
        )

    async def next(self) -> AbstractIncomingMessage:
        async with asyncio.timeout(PATIENCE):
            return await self._come.get()


@asynccontextmanager
async def author(url: str) -> AsyncIterator[Author]:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        found = Author(channel, await channel.declare_queue("", exclusive=True))
        await found.listen()
        yield found


def at(reference: str) -> Any:
    found: Any = MADE
    for step in reference.split("/")[1:]:
        found = found[step]
    return found


def messages(references: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [at(at(each["$ref"])["$ref"]) for each in references]


def fits(message: AbstractIncomingMessage, described: dict[str, Any]) -> bool:
    """Whether a message is what the document says: its payload, its headers, its properties."""
    names = ("content_type", "type", "correlation_id", "message_id", "reply_to")
    properties = {name: getattr(message, name) for name in names}
    properties = {name: value for name, value in properties.items() if value is not None}
    return all(
        jsonschema.Draft7Validator({"allOf": [schema], "components": MADE["components"]}).is_valid(
            value
        )
        for schema, value in (
            (described["payload"], json.loads(message.body)),
            (described["headers"], dict(message.headers)),
            (described["x-amqp-properties"], properties),
        )
    )


@pytest.mark.parametrize(
    ("form", "data", "answer", "part"),
    [
        ("ocpp2", {"connectorId": 1}, {"currency": "EUR", "energyPrice": 0.49}, "accepted"),
        ("ocpp1.6", '{"connectorId":1}', '{"currency":"EUR","energyPrice":0.49}', "accepted"),
        ("ocpp2", {"connectorId": 3}, None, "refused"),
        ("ocpp1.6", {"connectorId": 1}, None, "call-error"),
    ],
)
async def test_a_request_that_is_made_by_the_document_gets_an_answer_that_is_described_in_it(
    amqp_url: str, form: str, data: Any, answer: Any, part: str
) -> None:
    operation = "com.acme.GetTariff"
    strict = part == "call-error"  # or the worker takes what OCPP forbids
    async with (
        working(amqp_url, workshop.router, strict=strict),
        author(amqp_url) as gateway,
    ):
        reply = await gateway.ask(operation, form, data)
    assert reply.correlation_id == CORRELATION_ID
    assert json.loads(reply.body).get("data") == answer
    described = messages(MADE["operations"][operation]["reply"]["messages"])
    fitting = [each for each in described if fits(reply, each)]
    assert {each["x-part"] for each in fitting} == {part}
    assert form in {each["x-ocpp"] for each in fitting}


async def test_a_station_is_asked_as_the_document_says_and_its_answer_is_read(
    amqp_url: str,
) -> None:
    operation = MADE["operations"]["to-station.com.acme.ShowText"]
    message = workshop.show_text
    async with (
        working(amqp_url, workshop.router),
        author(amqp_url) as gateway,
        Client(amqp_url) as client,
    ):
        await gateway.hold("CP001")
        request = message.request(workshop.Text("Hello"))
        asked = asyncio.create_task(client.send_to_station("CP001", request, answer=message.answer))
        come = await gateway.next()
        [described] = messages(operation["messages"])
        assert fits(come, described)
        await gateway.answer(come, {"status": "Accepted", "data": '{"at":"now"}'})
        response = await asked
    assert response.data == workshop.Shown("now")
