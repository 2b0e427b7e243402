"""The values, their constructors, the profile and the handler protocols."""

import ast
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET

import bridge.ocpp
from bridge.ocpp import (
    DEFAULT_VERSION,
    FEATURE_NAME,
    PROFILE,
    ChargingStationHandler,
    CSMSHandler,
    DataTransferFeature,
    DataTransferRequest,
    DataTransferResponse,
    DataTransferStatus,
    Feature,
    OcppVersion,
    StatusInfo,
    parse_version,
)


@pytest.mark.parametrize("version", OcppVersion)
def test_a_version_is_known_by_its_sub_protocol(version: OcppVersion) -> None:
    assert parse_version(version.value) is version


@pytest.mark.parametrize("text", ["", "1.6", "OCPP1.6", "ocpp2.0.2", "x" * 1000])
def test_another_version_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"^Unknown OCPP version '.*expected one of ocpp1.6, ocpp2.0, ocpp2.0.1, ocpp2.1",
    ):
        parse_version(text)


def test_the_default_version_is_2_0_1() -> None:
    assert DEFAULT_VERSION is OcppVersion.V2_0_1


def test_the_constructor_takes_vendor_message_and_data_in_order() -> None:
    request = DataTransferRequest("EN+", "gatewayInfo", {"SN": "1"})
    assert (request.vendor_id, request.message_id, request.data) == (
        "EN+",
        "gatewayInfo",
        {"SN": "1"},
    )
    assert DataTransferRequest("EN+") == DataTransferRequest("EN+", None, UNSET, None)


@pytest.mark.parametrize("status", DataTransferStatus)
def test_a_status_may_be_given_as_its_text(status: DataTransferStatus) -> None:
    assert DataTransferResponse(status.value).status is status
    assert DataTransferResponse(status).status is status


def test_a_text_that_is_no_status_is_kept() -> None:
    assert DataTransferResponse("accepted").status == "accepted"


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (DataTransferRequest("v"), b'{"vendorId":"v"}'),
        (DataTransferRequest("v", "m", None, {"vendorId": "w"}), None),
        (DataTransferResponse("Accepted"), b'{"status":"Accepted"}'),
        (DataTransferResponse("Rejected", 1, StatusInfo("r", "a"), {"vendorId": "w"}), None),
        (StatusInfo("r"), b'{"reasonCode":"r"}'),
    ],
)
def test_the_values_are_msgspec_values_with_the_names_of_the_wire(
    value: msgspec.Struct, wire: bytes | None
) -> None:
    encoded = msgspec.json.encode(value)
    assert wire is None or encoded == wire
    assert "_" not in encoded.decode()
    assert msgspec.json.decode(encoded, type=type(value)) == value


def test_the_profile_holds_the_feature() -> None:
    feature: Feature = DataTransferFeature()
    assert PROFILE.name == "data"
    assert PROFILE.features == (feature,)
    assert PROFILE.feature(FEATURE_NAME) == feature
    assert PROFILE.feature("Heartbeat") is None
    assert feature.feature_name == "DataTransfer"
    assert (feature.request_type, feature.response_type) == (
        DataTransferRequest,
        DataTransferResponse,
    )


class Csms:
    def on_data_transfer(
        self, charging_station_id: str, request: DataTransferRequest
    ) -> DataTransferResponse:
        return DataTransferResponse("Accepted", f"{charging_station_id} {request.vendor_id}")


class Station:
    async def on_data_transfer(self, request: DataTransferRequest) -> DataTransferResponse:
        return DataTransferResponse("Accepted", request.vendor_id)


async def test_handlers_may_be_plain_or_async() -> None:
    csms: CSMSHandler = Csms()
    station: ChargingStationHandler = Station()
    assert isinstance(csms, CSMSHandler)
    assert isinstance(station, ChargingStationHandler)
    assert csms.on_data_transfer("CS1", DataTransferRequest("v")) == DataTransferResponse(
        "Accepted", "CS1 v"
    )
    answer = station.on_data_transfer(DataTransferRequest("v"))
    assert not isinstance(answer, DataTransferResponse)
    assert await answer == DataTransferResponse("Accepted", "v")


def test_everything_listed_is_there() -> None:
    assert all(hasattr(bridge.ocpp, name) for name in bridge.ocpp.__all__)
    assert len(bridge.ocpp.__all__) == len(set(bridge.ocpp.__all__))


def test_the_package_stands_on_its_two_libraries_of_json_and_values_alone() -> None:
    folder = Path(bridge.ocpp.__file__).parent
    imported = set()
    for source in folder.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    foreign = {
        name for name in imported if not name.startswith(("bridge.ocpp", "msgspec", "orjson"))
    }
    assert foreign == {"collections.abc", "contextlib", "enum", "re", "typing"}
