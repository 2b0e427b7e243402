"""What charging stations send, what the CSMS sends to them, and the one right answer to each
message.

The payloads are the bytes on the wire. In OCPP 1.6 `data` is a string, so a vendor's JSON travels
as text inside a string; from 2.0.1 on it is any JSON value. Some of these messages go to the
station in the field: here they stand for the shape of their data. Expected data is compared byte
for byte as well: in an answer to a 1.6 station, `data` is a string.
"""

import enum

import msgspec

from bridge.ocpp import DataTransferRequest


class Row(enum.StrEnum):
    """The situations that lead to an answer."""

    ACCEPTED = "handler returns None"
    ACCEPTED_WITH_DATA = "handler returns a value"
    WHOLE_RESPONSE = "handler returns a DataTransferResponse"
    REJECTED = "handler raises Rejected"
    UNKNOWN_VENDOR = "no handler for the vendor"
    UNKNOWN_MESSAGE = "vendor known, messageId not"
    INVALID_DATA = "data does not fit the handler's type"
    BROKEN_PAYLOAD = "payload is not a DataTransferRequest"
    RETRY_IN_VAIN = "handler raises Retry, and its next try would come after the deadline"
    HANDLER_FAILED = "handler raises anything else"
    HANDLER_TOO_SLOW = "handler exceeds its time"
    BROKEN_FRAME = "frame is not JSON: the gateway answers"
    OTHER_ACTION = "action is none that the gateway knows: the gateway answers"


class Response(msgspec.Struct, frozen=True):
    """A CALLRESULT: what the DataTransferResponse must hold, and nothing else."""

    status: str
    data: bytes | None = None
    """The exact JSON of `data`. None: absent."""
    reason_code: str | None = None
    """The reasonCode of statusInfo. None: no statusInfo (OCPP 1.6 has none)."""
    info: str = ""
    """What the additionalInfo of statusInfo must contain."""


class Failure(msgspec.Struct, frozen=True):
    """A CALLERROR."""

    error_code: str
    """As the version spells it."""


class Offline(msgspec.Struct, frozen=True):
    """The CSMS learns at once that no gateway has the station."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One request from one station."""

    name: str
    """Unique in the corpus."""
    station_id: str
    ocpp_version: str
    """The WebSocket sub-protocol. A station speaks one version."""
    action: str = "DataTransfer"
    payload: bytes
    row: Row
    answer: Response | Failure


V16, V201, V21 = "ocpp1.6", "ocpp2.0.1", "ocpp2.1"
LABS = {V16: "LAB-1", V201: "LAB-2", V21: "LAB-3"}
"""Stations that try what vendors do not send, one for each version."""

ACCEPTED = Response("Accepted")
REJECTED = Response("Rejected")
UNKNOWN_VENDOR = Response("UnknownVendorId")
UNKNOWN_MESSAGE = Response("UnknownMessageId")

PLUG_AND_CHARGE = (
    Message(
        name="Authorize, idToken as text",
        station_id="DE-8AA-E0117",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"Authorize",'
        rb'"data":"{\"idToken\":\"DE-8AA-CA1B2C3D4-9\"}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response(
            "Accepted",
            rb'"{\"idTokenInfo\":{\"status\":\"Accepted\",\"cacheExpiryDateTime\":\"2027-01-01T00:00:00Z\"}}"',
        ),
    ),
    Message(
        name="Authorize, idToken as object, with certificate hashes",
        station_id="DE-8AA-E0118",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"Authorize",'
        rb'"data":"{\"idToken\":{\"idToken\":\"DE-8AA-CA1B2C3D4-9\",\"type\":\"eMAID\"},'
        rb"\"iso15118CertificateHashData\":[{\"hashAlgorithm\":\"SHA256\","
        rb"\"issuerNameHash\":\"b7f1a6d0c5e9\",\"issuerKeyHash\":\"27ac91d3f0b4\",\"serialNumber\":\"3041\","
        rb'\"responderURL\":\"http://ocsp.example.com\"}]}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response(
            "Accepted",
            rb'"{\"idTokenInfo\":{\"status\":\"Accepted\",\"cacheExpiryDateTime\":\"2027-01-01T00:00:00Z\"},'
            rb'\"certificateStatus\":\"Accepted\"}"',
        ),
    ),
    Message(
        name="Authorize, contract blocked: Accepted outside, Blocked inside",
        station_id="DE-8AA-E0118",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"Authorize",'
        rb'"data":"{\"idToken\":\"DE-8AA-CA2B3C4D5-N\"}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{\"idTokenInfo\":{\"status\":\"Blocked\"}}"'),
    ),
    Message(
        name="Authorize, vendorId and messageId in capitals",
        station_id="DE-8AA-E0119",
        ocpp_version=V16,
        payload=rb'{"vendorId":"ORG.OPENCHARGEALLIANCE.ISO15118PNC","messageId":"AUTHORIZE",'
        rb'"data":"{\"idToken\":\"DE-8AA-CA2B3C4D5-N\"}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{\"idTokenInfo\":{\"status\":\"Blocked\"}}"'),
    ),
    Message(
        name="Authorize, a hash algorithm that is none",
        station_id="DE-8AA-E0119",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"Authorize",'
        rb'"data":"{\"idToken\":\"DE-8AA-CA1B2C3D4-9\",\"iso15118CertificateHashData\":[{\"hashAlgorithm\":\"MD5\",'
        rb'\"issuerNameHash\":\"b7f1\",\"issuerKeyHash\":\"27ac\",\"serialNumber\":\"3041\"}]}"}',
        row=Row.INVALID_DATA,
        answer=REJECTED,
    ),
    Message(
        name="Get15118EVCertificate, the largest EXI request",
        station_id="DE-8AA-E0117",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"Get15118EVCertificate",'
        rb'"data":"{\"iso15118SchemaVersion\":\"urn:iso:15118:2:2013:MsgDef\",\"action\":\"Install\",'
        rb"\"exiRequest\":\"" + b"gJgCEZ" * 933 + rb'==\"}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response(
            "Accepted",
            rb'"{\"status\":\"Accepted\",\"exiResponse\":\"' + b"gJgCEZ" * 933 + rb'==\"}"',
        ),
    ),
    Message(
        name="GetCertificateStatus",
        station_id="DE-8AA-E0117",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"GetCertificateStatus",'
        rb'"data":"{\"ocspRequestData\":{\"hashAlgorithm\":\"SHA256\",\"issuerNameHash\":\"b7f1a6d0c5e9\",'
        rb"\"issuerKeyHash\":\"27ac91d3f0b4\",\"serialNumber\":\"3041\","
        rb'\"responderURL\":\"http://ocsp.example.com\"}}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response(
            "Accepted",
            rb'"{\"status\":\"Accepted\",\"ocspResult\":\"MIIBCgoBAKCCAQMwgf8GCSsGAQUFBzABAQ==\"}"',
        ),
    ),
    Message(
        name="SignCertificate, PEM with its line ends escaped twice",
        station_id="DE-8AA-E0120",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"SignCertificate",'
        rb'"data":"{\"csr\":\"-----BEGIN CERTIFICATE REQUEST-----\\nMIHZMIGAAgEAMB4xHDAaBgNVBAMM\\n'
        rb'-----END CERTIFICATE REQUEST-----\\n\"}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{\"status\":\"Accepted\"}"'),
    ),
    Message(
        name="InstallCertificate, which only a CSMS sends",
        station_id="DE-8AA-E0120",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.iso15118pnc","messageId":"InstallCertificate",'
        rb'"data":"{\"certificateType\":\"V2GRootCertificate\",'
        rb'\"certificate\":\"-----BEGIN CERTIFICATE-----\"}"}',
        row=Row.UNKNOWN_MESSAGE,
        answer=UNKNOWN_MESSAGE,
    ),
)

COST_MESSAGES = (
    Message(
        name="ConnectorUnplugged, transactionId as number",
        station_id="US-CAL-7001",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.costmsg","messageId":"ConnectorUnplugged",'
        rb'"data":"{\"transactionId\":48213,\"timestamp\":\"2026-03-14T18:22:05Z\"}"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="ConnectorUnplugged, transactionId as text, queued offline",
        station_id="US-CAL-7002",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.costmsg","messageId":"ConnectorUnplugged",'
        rb'"data":"{\"transactionId\":\"48214\",\"timestamp\":\"2026-03-11T02:10:44.318-08:00\"}"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="RunningCost, which only a CSMS sends",
        station_id="US-CAL-7002",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.openchargealliance.costmsg","messageId":"RunningCost",'
        rb'"data":"{\"transactionId\":48214,\"timestamp\":\"2026-03-14T18:30:00Z\",\"meterValue\":1234000,'
        rb'\"cost\":2.81,\"state\":\"Charging\",\"chargingPrice\":{\"kWhPrice\":0.12,\"hourPrice\":2.0}}"}',
        row=Row.UNKNOWN_MESSAGE,
        answer=UNKNOWN_MESSAGE,
    ),
)

TEXT = (
    Message(
        name="evbStatusNotification, charging",
        station_id="EVB-P1942188",
        ocpp_version=V16,
        payload=rb'{"vendorId":"EV-BOX","messageId":"evbStatusNotification",'
        rb'"data":"1,Charging,NoError,,1,Blue,1,{32,4800,53},{5120733,8410},{C,12140,6020,11970},0,0,401,'
        rb'2026-03-14T18:22:05Z,48213,78,{231,24,0,310,0,0,999,0,0},310,14,4,61,0,900,320,5004"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="evbStatusNotification over 2.0.1",
        station_id="EVB-P1942190",
        ocpp_version=V201,
        payload=rb'{"vendorId":"EV-BOX","messageId":"evbStatusNotification",'
        rb'"data":"2,Available,NoError,,0,Green,1,{0,4800,100},{730011,0},{A,12110,12030,0},0,0,399,'
        rb'2026-03-14T18:22:09Z,0,71,{230,21,0,0,0,0,0,0,0},270,0,3,58,0,900,900,5004"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="evbStatusNotification, cut off",
        station_id="EVB-P1942191",
        ocpp_version=V201,
        payload=rb'{"vendorId":"EV-BOX","messageId":"evbStatusNotification","data":"1,Charging,NoErr"}',
        row=Row.REJECTED,
        answer=Response("Rejected", reason_code="FieldsMissing", info="got 3"),
    ),
    Message(
        name="evbWifiStatusNotification, for the vendor's default handler",
        station_id="EVB-P1942188",
        ocpp_version=V16,
        payload=rb'{"vendorId":"EV-BOX","messageId":"evbWifiStatusNotification","data":"7,Home"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="no messageId, for the vendor's default handler",
        station_id="EVB-P1942188",
        ocpp_version=V16,
        payload=rb'{"vendorId":"EV-BOX"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="SoC, a bare number as text",
        station_id="MNT-4471",
        ocpp_version=V16,
        payload=rb'{"vendorId":"com.monta","messageId":"SoC","data":"73"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="SoC, no number",
        station_id="MNT-4471",
        ocpp_version=V16,
        payload=rb'{"vendorId":"com.monta","messageId":"SoC","data":"n/a"}',
        row=Row.INVALID_DATA,
        answer=REJECTED,
    ),
    Message(
        name="StartTime, a bare timestamp",
        station_id="MNT-4471",
        ocpp_version=V16,
        payload=rb'{"vendorId":"com.monta","messageId":"StartTime","data":"2026-03-14T22:00:00+01:00"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="readings with commas, no messageId",
        station_id="NRG-20117",
        ocpp_version=V16,
        payload=rb'{"vendorId":"com.nrgkick","data":"3680.5,3679.25,0"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{\"phases\":3,\"power\":7359.75}"'),
    ),
    Message(
        name="readings with a unit",
        station_id="NRG-20117",
        ocpp_version=V16,
        payload=rb'{"vendorId":"com.nrgkick","data":"3680.5 W,3679.25 W,0 W"}',
        row=Row.REJECTED,
        answer=REJECTED,
    ),
    Message(
        name="readings with commas, empty messageId",
        station_id="NRG-20118",
        ocpp_version=V21,
        payload=rb'{"vendorId":"com.nrgkick","messageId":"","data":"3680.5,3679.25,0"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'{"phases":3,"power":7359.75}'),
    ),
)

JSON = (
    Message(
        name="CarId, a JSON array in a string",
        station_id="STAR-88014",
        ocpp_version=V16,
        payload=rb'{"vendorId":"StarCharge","messageId":"CarId","data":"[\"LGXC76C44N0123456\"]"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="CarId, an array",
        station_id="STAR-88015",
        ocpp_version=V201,
        payload=rb'{"vendorId":"StarCharge","messageId":"CarId","data":["LGXC76C44N0123456","LGXC76C44N0123457"]}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="CarId, empty",
        station_id="STAR-88016",
        ocpp_version=V21,
        payload=rb'{"vendorId":"StarCharge","messageId":"CarId","data":[]}',
        row=Row.REJECTED,
        answer=Response("Rejected", reason_code="NoCarId", info="empty"),
    ),
    Message(
        name="CarId without data",
        station_id="STAR-88016",
        ocpp_version=V21,
        payload=rb'{"vendorId":"StarCharge","messageId":"CarId"}',
        row=Row.INVALID_DATA,
        answer=Response("Rejected", reason_code="InvalidData"),
    ),
    Message(
        name="gatewayInfo",
        station_id="EN-0A42F1",
        ocpp_version=V16,
        payload=rb'{"vendorId":"EN+","messageId":"gatewayInfo",'
        rb'"data":"{\"SN\":\"SN10052104262317\",\"fwVer\":\"V3.2.418\",\"gateCode\":\"91\"}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{\"SN\":\"SN10052104262317\",\"update\":true}"'),
    ),
    Message(
        name="gatewayInfo, an object although this is 1.6",
        station_id="EN-0A42F2",
        ocpp_version=V16,
        payload=rb'{"vendorId":"EN+","messageId":"gatewayInfo",'
        rb'"data":{"SN":"SN10052104262318","fwVer":"V3.3.102","gateCode":"91"}}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{\"SN\":\"SN10052104262318\",\"update\":false}"'),
    ),
    Message(
        name="gatewayInfo, an object in 2.1",
        station_id="EN-0A42F3",
        ocpp_version=V21,
        payload=rb'{"vendorId":"EN+","messageId":"gatewayInfo",'
        rb'"data":{"SN":"SN10052104262319","fwVer":"V3.3.102","gateCode":"91"}}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'{"SN":"SN10052104262319","update":false}'),
    ),
    Message(
        name="gatewayInfo, not JSON",
        station_id="EN-0A42F1",
        ocpp_version=V16,
        payload=rb'{"vendorId":"EN+","messageId":"gatewayInfo","data":"SN=SN10052104262317"}',
        row=Row.INVALID_DATA,
        answer=REJECTED,
    ),
    Message(
        name="gatewayInfo, encoded twice",
        station_id="EN-0A42F1",
        ocpp_version=V16,
        payload=rb'{"vendorId":"EN+","messageId":"gatewayInfo",'
        rb'"data":"\"{\\\"SN\\\":\\\"SN1\\\",\\\"fwVer\\\":\\\"V3\\\",\\\"gateCode\\\":\\\"91\\\"}\""}',
        row=Row.INVALID_DATA,
        answer=REJECTED,
    ),
    Message(
        name="GetNetStat, no data",
        station_id="EVNEX-E2-113",
        ocpp_version=V16,
        payload=rb'{"vendorId":"Evnex","messageId":"GetNetStat"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="GetNetStat, data null, with customData",
        station_id="EVNEX-X7-009",
        ocpp_version=V201,
        payload=rb'{"customData":{"vendorId":"Evnex","uptime":86400},"vendorId":"Evnex","messageId":"GetNetStat",'
        rb'"data":null}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="setMeterConfiguration",
        station_id="DE-ABL-3312",
        ocpp_version=V16,
        payload=rb'{"vendorId":"generalConfiguration","messageId":"setMeterConfiguration",'
        rb'"data":"{\"meters\":[{\"connectorId\":1,\"meterSerial\":\"1EBZ0103221877\",\"type\":\"SIGNATURE\",'
        rb'\"publicKey\":\"3059301306072A8648CE3D020106082A8648CE3D030107034200\"}]}"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="setMeterConfiguration, connectorId as text",
        station_id="DE-ABL-3313",
        ocpp_version=V201,
        payload=rb'{"vendorId":"generalConfiguration","messageId":"setMeterConfiguration","data":{"meters":['
        rb'{"connectorId":"1","meterSerial":"1EBZ0103221878","type":"SIGNATURE","publicKey":"3059"}]}}',
        row=Row.INVALID_DATA,
        answer=Response("Rejected", reason_code="InvalidData", info="meters[0].connectorId"),
    ),
    Message(
        name="setMeterConfiguration, two meters on one connector",
        station_id="DE-ABL-3314",
        ocpp_version=V21,
        payload=rb'{"vendorId":"generalConfiguration","messageId":"setMeterConfiguration","data":{"meters":['
        rb'{"connectorId":1,"meterSerial":"1EBZ0103221878","type":"SIGNATURE","publicKey":"3059"},'
        rb'{"connectorId":1,"meterSerial":"1EBZ0103221879","type":"SIGNATURE","publicKey":"3059"}]}}',
        row=Row.REJECTED,
        answer=Response("Rejected", reason_code="DuplicateConnector", info="more than one meter"),
    ),
    Message(
        name="customMeterValues, snake_case",
        station_id="V2G-HLX-05",
        ocpp_version=V16,
        payload=rb'{"vendorId":"nu.ame","messageId":"customMeterValues","data":"{\"local_mode\":false,'
        rb"\"p_baseline\":5000,\"q_baseline\":0,\"p_max\":19200,\"p_min\":-19200,\"min_soc\":20,\"max_soc\":95,"
        rb'\"ev_min_soc\":10,\"ev_energy_capacity\":40,\"session_active\":true,\"output_power\":4180}"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{\"p_max\":19200,\"p_min\":-19200}"'),
    ),
    Message(
        name="customMeterValues, a state of charge of 120 percent",
        station_id="V2G-HLX-06",
        ocpp_version=V201,
        payload=rb'{"vendorId":"nu.ame","messageId":"customMeterValues","data":{"local_mode":true,'
        rb'"p_baseline":5000,"q_baseline":0,"p_max":19200,"p_min":-19200,"min_soc":20,"max_soc":120,'
        rb'"session_active":true,"output_power":4180}}',
        row=Row.INVALID_DATA,
        answer=Response("Rejected", reason_code="InvalidData", info="max_soc"),
    ),
)

PACKS = (
    Message(
        name="StatusNotificationDetailRequest",
        station_id="DE-UEC-0007",
        ocpp_version=V16,
        payload=rb'{"vendorId":"org.charin.uec.v1","messageId":"StatusNotificationDetailRequest",'
        rb'"data":"{\"eventId\":\"f66f316e-e2c1-4f7c-a509-ad4cb0cf1cd2\",'
        rb'\"errorCode\":\"ContactorPosition\",\"parameters\":{\"connector\":1}}"}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="StatusNotificationDetailRequest, its id no UUID",
        station_id="DE-UEC-0008",
        ocpp_version=V201,
        payload=rb'{"vendorId":"org.charin.uec.v1","messageId":"StatusNotificationDetailRequest",'
        rb'"data":{"eventId":"17","errorCode":"ContactorPosition"}}',
        row=Row.INVALID_DATA,
        answer=Response("Rejected", reason_code="InvalidData", info="eventId"),
    ),
    Message(
        name="uvCardReg, an object although this is 1.6, memberID in capitals",
        station_id="KR-UNI-31",
        ocpp_version=V16,
        payload=rb'{"vendorId":"UNIEV","messageId":"uvCardReg",'
        rb'"data":{"token":"W00000000000000001","memberID":"craypas"}}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
    Message(
        name="uvGetIdTagProfile",
        station_id="KR-UNI-31",
        ocpp_version=V16,
        payload=rb'{"vendorId":"UNIEV","messageId":"uvGetIdTagProfile",'
        rb'"data":{"idTag":"W00000000000000001"}}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{\"power\":\"7\"}"'),
    ),
)

UNTOUCHED = (
    Message(
        name="Echo of text",
        station_id="LAB-1",
        ocpp_version=V16,
        payload=rb'{"vendorId":"com.example.workshop","messageId":"Echo",'
        rb'"data":"{ \"b\" : 1.50, \"a\":\u00e9 }"}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'"{ \"b\" : 1.50, \"a\":\u00e9 }"'),
    ),
    Message(
        name="Echo of an object, blanks and all",
        station_id="LAB-2",
        ocpp_version=V201,
        payload=rb'{"vendorId":"com.example.workshop","messageId":"Echo",'
        rb'"data":{ "b" : 1.50, "a":null }}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response("Accepted", rb'{ "b" : 1.50, "a":null }'),
    ),
    Message(
        name="Document: keys, nulls and integers above 64 bits survive",
        station_id="LAB-3",
        ocpp_version=V21,
        payload=rb'{"vendorId":"com.example.workshop","messageId":"Document","data":'
        rb'{"PnCEnabled":true,"kWhPrice":null,"serial":9007199254740993,"key":18446744073709551617}}',
        row=Row.ACCEPTED_WITH_DATA,
        answer=Response(
            "Accepted",
            rb'{"PnCEnabled":true,"kWhPrice":null,"serial":9007199254740993,"key":18446744073709551617}',
        ),
    ),
    Message(
        name="Ticket: a response with status and data",
        station_id="LAB-2",
        ocpp_version=V201,
        payload=rb'{"vendorId":"com.example.workshop","messageId":"Ticket","data":{"subject":"cable"}}',
        row=Row.WHOLE_RESPONSE,
        answer=Response("Rejected", rb'"workshop closed"'),
    ),
    Message(
        name="a field of a later version",
        station_id="LAB-2",
        ocpp_version=V201,
        payload=rb'{"vendorId":"Evnex","messageId":"GetNetStat","priority":9}',
        row=Row.ACCEPTED,
        answer=ACCEPTED,
    ),
)

UNKNOWN = (
    Message(
        name="a vendor nobody handles",
        station_id="DE-8AA-E0121",
        ocpp_version=V16,
        payload=rb'{"vendorId":"com.unheard-of","messageId":"Hello","data":"{}"}',
        row=Row.UNKNOWN_VENDOR,
        answer=UNKNOWN_VENDOR,
    ),
    Message(
        name="a vendorId that looks like a binding pattern",
        station_id="DE-8AA-E0122",
        ocpp_version=V201,
        payload=rb'{"vendorId":"a.b.#.*","data":1}',
        row=Row.UNKNOWN_VENDOR,
        answer=UNKNOWN_VENDOR,
    ),
    Message(
        name="a vendorId of 255 emoji",
        station_id="DE-8AA-E0123",
        ocpp_version=V21,
        payload=f'{{"vendorId":"{"🔌" * 255}"}}'.encode(),
        row=Row.UNKNOWN_VENDOR,
        answer=UNKNOWN_VENDOR,
    ),
    Message(
        name="a known vendor's message nobody handles",
        station_id="EN-0A42F3",
        ocpp_version=V21,
        payload=rb'{"vendorId":"EN+","messageId":"cpStartTransactionMode","data":{"mode":"normal"}}',
        row=Row.UNKNOWN_MESSAGE,
        answer=UNKNOWN_MESSAGE,
    ),
    Message(
        name="no messageId where the vendor needs one",
        station_id="EN-0A42F4",
        ocpp_version=V201,
        payload=rb'{"vendorId":"EN+","data":{"mode":"normal"}}',
        row=Row.UNKNOWN_MESSAGE,
        answer=UNKNOWN_MESSAGE,
    ),
)

FAILED = (
    Message(
        name="Crash in 1.6",
        station_id="LAB-1",
        ocpp_version=V16,
        payload=rb'{"vendorId":"com.example.workshop","messageId":"Crash"}',
        row=Row.HANDLER_FAILED,
        answer=Failure("InternalError"),
    ),
    Message(
        name="Crash in 2.0.1",
        station_id="LAB-2",
        ocpp_version=V201,
        payload=rb'{"vendorId":"com.example.workshop","messageId":"Crash"}',
        row=Row.HANDLER_FAILED,
        answer=Failure("InternalError"),
    ),
    Message(
        name="Busy: the next try would come after the deadline",
        station_id="LAB-2",
        ocpp_version=V201,
        payload=rb'{"vendorId":"com.example.workshop","messageId":"Busy"}',
        row=Row.RETRY_IN_VAIN,
        answer=Failure("InternalError"),
    ),
    Message(
        name="Slow",
        station_id="LAB-3",
        ocpp_version=V21,
        payload=rb'{"vendorId":"com.example.workshop","messageId":"Slow"}',
        row=Row.HANDLER_TOO_SLOW,
        answer=Failure("GenericError"),
    ),
)


class Fault(msgspec.Struct, frozen=True):
    """Payloads that are not a DataTransferRequest in any version, each with its error code."""

    name: str
    payload: bytes
    error_code: str
    error_code_16: str | None = None
    """The code in OCPP 1.6, if that spells it differently (OCPP-J 1.6 §4.2.3)."""


FAULTS = (
    Fault(
        "vendorId missing",
        rb'{"messageId":"gatewayInfo"}',
        "OccurrenceConstraintViolation",
        error_code_16="OccurenceConstraintViolation",
    ),
    Fault("vendorId a number", rb'{"vendorId":12}', "TypeConstraintViolation"),
    Fault(
        "vendorId of 256 characters",
        b'{"vendorId":"' + b"v" * 256 + b'"}',
        "PropertyConstraintViolation",
    ),
    Fault(
        "messageId of 51 characters",
        b'{"vendorId":"EN+","messageId":"' + b"m" * 51 + b'"}',
        "PropertyConstraintViolation",
    ),
)


def _broken(fault: Fault, ocpp_version: str) -> Message:
    code = fault.error_code_16 if ocpp_version == V16 else None
    return Message(
        name=f"{fault.name}, {ocpp_version}",
        station_id=LABS[ocpp_version],
        ocpp_version=ocpp_version,
        payload=fault.payload,
        row=Row.BROKEN_PAYLOAD,
        answer=Failure(code or fault.error_code),
    )


FRAMES = (
    *(
        Message(
            name=f"a frame that is no JSON, {version}",
            station_id=LABS[version],
            ocpp_version=version,
            payload=rb'{"vendorId":"EN+","messageId":',
            row=Row.BROKEN_FRAME,
            answer=Failure(code),
        )
        for version, code in (
            (V16, "FormationViolation"),
            (V201, "RpcFrameworkError"),
            (V21, "RpcFrameworkError"),
        )
    ),
    Message(
        name="an action that is the CSMS's own affair",
        station_id=LABS[V16],
        ocpp_version=V16,
        action="StartTransaction",
        payload=rb'{"connectorId":1,"idTag":"CA1B2C3D4","meterStart":0,"timestamp":"2026-03-14T18:22:05Z"}',
        row=Row.OTHER_ACTION,
        answer=Failure("NotSupported"),
    ),
    Message(
        name="an action that OCPP 2.1 does not have",
        station_id=LABS[V21],
        ocpp_version=V21,
        action="StartTransaction",
        payload=b"{}",
        row=Row.OTHER_ACTION,
        answer=Failure("NotImplemented"),
    ),
)

CORPUS: tuple[Message, ...] = (
    *PLUG_AND_CHARGE,
    *COST_MESSAGES,
    *TEXT,
    *JSON,
    *PACKS,
    *UNTOUCHED,
    *UNKNOWN,
    *FAILED,
    *(_broken(fault, version) for fault in FAULTS for version in (V16, V201, V21)),
    *FRAMES,
)

STATIONS: dict[str, str] = {message.station_id: message.ocpp_version for message in CORPUS}
"""The version that each station of the corpus speaks."""

# ---- the other direction ----


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One request from the CSMS to one station."""

    name: str
    station_id: str
    request: DataTransferRequest
    answer: Response | Failure | Offline


COMMANDS = (
    Command(
        name="a price for the driver, in 1.6",
        station_id="US-CAL-7001",
        request=DataTransferRequest(
            "org.openchargealliance.costmsg",
            "SetUserPrice",
            {"idToken": "CA1B2C3D4", "priceText": "$0.12/kWh"},
        ),
        answer=Response("Accepted"),
    ),
    Command(
        name="certificates, in 1.6",
        station_id="DE-8AA-E0117",
        request=DataTransferRequest(
            "org.openchargealliance.iso15118pnc", "GetInstalledCertificateIds", {}
        ),
        answer=Response("Accepted", rb'"{\"status\":\"NotFound\"}"'),
    ),
    Command(
        name="an echo, in 2.0.1",
        station_id=LABS[V201],
        request=DataTransferRequest(
            "com.example.workshop", "Echo", {"PnCEnabled": True, "kWhPrice": None}
        ),
        answer=Response("Accepted", rb'{"PnCEnabled":true,"kWhPrice":null}'),
    ),
    Command(
        name="a message the station does not know",
        station_id=LABS[V21],
        request=DataTransferRequest("com.example.workshop", "Dance"),
        answer=UNKNOWN_MESSAGE,
    ),
    Command(
        name="a vendor the station does not know",
        station_id="EVNEX-X7-009",
        request=DataTransferRequest("com.unheard-of", "Hello"),
        answer=UNKNOWN_VENDOR,
    ),
    Command(
        name="the station fails",
        station_id=LABS[V16],
        request=DataTransferRequest("com.example.workshop", "Crash"),
        answer=Failure("InternalError"),
    ),
    Command(
        name="a station that is not there",
        station_id="DE-8AA-E9999",
        request=DataTransferRequest("com.example.workshop", "Echo", "anybody?"),
        answer=Offline(),
    ),
)
