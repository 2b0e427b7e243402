"""The accounts of compose.yaml can do what their services do, and no more."""

import json
from pathlib import Path

from bridge import DataTransferRequest, DataTransferResponse
from bridge.client.client import Client
from bridge.gateway import GatewayLink
from bridge.testing.rabbitmq import PrivateBroker
from deploy import make_secrets
from tests.integration.support import PATIENCE, WorkerProcess, delete_users, import_definitions


async def accept(request: DataTransferRequest) -> DataTransferResponse:
    return DataTransferResponse("Accepted")


async def test_each_account_has_the_rights_that_its_service_needs(
    breakable_broker: PrivateBroker, tmp_path: Path
) -> None:
    host = f"127.0.0.1:{breakable_broker.port}"
    make_secrets.make(tmp_path, host)
    definitions = json.loads((tmp_path / "broker" / "definitions.json").read_text())
    import_definitions(breakable_broker, definitions)
    urls = {
        name: (tmp_path / name / "amqp-url").read_text().strip()
        for name in make_secrets.PERMISSIONS
    }
    async with (
        WorkerProcess("tests.integration.echo_vendor:router", urls["worker"]),
        GatewayLink(urls["gateway"], timeout=PATIENCE, topology="verify") as link,
        Client(urls["client"], timeout=PATIENCE) as client,
    ):
        request = DataTransferRequest("echo", "m", [1])
        assert (await link.data_transfer("CP1", "ocpp2.0.1", request)).data == ["CP1", 1]
        await link.connect_station("CP1", "ocpp2.0.1", accept)
        assert (await client.send_to_station("CP1", request)).status == "Accepted"
        assert (await client.data_transfer("CP1", request)).data == ["CP1", 1]
    delete_users(
        breakable_broker, *make_secrets.PERMISSIONS, make_secrets.ADMIN, make_secrets.SCALER
    )
