"""One fixture: a broker, first in memory, then RabbitMQ."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.sides import MemorySide, RabbitSide, Side


@pytest.fixture(params=["memory", "rabbitmq"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "memory":
        yield MemorySide()
        return
    rabbit = RabbitSide(request.getfixturevalue("amqp_url"))
    await rabbit.open()
    yield rabbit
    await rabbit.close()
