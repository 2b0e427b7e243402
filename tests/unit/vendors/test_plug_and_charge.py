"""Plug & Charge over 1.6, every message, as the note has it and as stations send it."""

import datetime as dt
from typing import Any

import pytest

from bridge import Call, HandlerError
from bridge.testing import ask
from bridge.vendors import plug_and_charge as pnc
from tests.unit.vendors.tables import (
    Asked,
    Form,
    NotAnswered,
    NotSent,
    Refused,
    Row,
    Sent,
    missing,
    played,
)

HASH = (
    '{"hashAlgorithm":"SHA256","issuerNameHash":"b7f1","issuerKeyHash":"27ac","serialNumber":"3041"'
)
HASH_DATA = pnc.CertificateHashData("SHA256", "b7f1", "27ac", "3041")
ACCEPTED = pnc.AuthorizeResponse(pnc.IdTokenInfo("Accepted"))
ACCEPTED_JSON = '{"idTokenInfo":{"status":"Accepted"}}'
EMAID = "DE-8AA-CA1B2C3D4-9"
EV = '{"iso15118SchemaVersion":"urn:iso:15118:2:2013:MsgDef","action":%s,"exiRequest":"%s"}'

ROWS: list[Row] = [
    # ---- from the station ----
    Asked(
        name="Authorize, idToken as text",
        message_id="Authorize",
        data=f'{{"idToken":"{EMAID}"}}',
        given=pnc.AuthorizeRequest(EMAID),
        answer=ACCEPTED,
        sent=ACCEPTED_JSON,
    ),
    Asked(
        name="Authorize, idToken as object, hashes, a field of the station's own",
        message_id="Authorize",
        data=f'{{"idToken":{{"idToken":"{EMAID}","type":"eMAID"}},"certificate":"PEM","x":1,'
        f'"iso15118CertificateHashData":[{HASH},"responderURL":"http://o"}}]}}',
        given=pnc.AuthorizeRequest(
            pnc.IdToken(EMAID, "eMAID"),
            "PEM",
            [pnc.CertificateHashData("SHA256", "b7f1", "27ac", "3041", "http://o")],
        ),
        answer=pnc.AuthorizeResponse(
            pnc.IdTokenInfo("Blocked", dt.datetime(2027, 1, 1, tzinfo=dt.UTC)),
            "CertificateRevoked",
        ),
        sent='{"idTokenInfo":{"status":"Blocked","cacheExpiryDateTime":"2027-01-01T00:00:00Z"},'
        '"certificateStatus":"CertificateRevoked"}',
    ),
    Asked(
        name="Authorize, null for what is optional",
        message_id="authorize",
        data=f'{{"idToken":"{EMAID}","certificate":null,"iso15118CertificateHashData":null}}',
        given=pnc.AuthorizeRequest(EMAID),
        answer=ACCEPTED,
        sent=ACCEPTED_JSON,
    ),
    Refused(name="Authorize without data", message_id="Authorize", fault="data: required"),
    Refused(
        name="Authorize without idToken",
        message_id="Authorize",
        data='{"certificate":"PEM"}',
        fault="idToken",
    ),
    Refused(
        name="Authorize, idToken a number",
        message_id="Authorize",
        data='{"idToken":4711}',
        fault="idToken",
    ),
    Refused(
        name="Authorize, a certificate of 5,501 characters",
        message_id="Authorize",
        data=f'{{"idToken":"{EMAID}","certificate":"{"c" * 5501}"}}',
        fault="certificate",
    ),
    Refused(
        name="Authorize, five hashes",
        message_id="Authorize",
        data=f'{{"idToken":"{EMAID}","iso15118CertificateHashData":'
        f"[{','.join([HASH + '}'] * 5)}]}}",
        fault="iso15118CertificateHashData",
    ),
    Refused(
        name="Authorize, a hash algorithm that is none",
        message_id="Authorize",
        data=f'{{"idToken":"{EMAID}","iso15118CertificateHashData":'
        f"[{HASH.replace('SHA256', 'MD5')}}}]}}",
        fault="hashAlgorithm",
    ),
    NotAnswered(
        name="Authorize, answered with a status that is none",
        message_id="Authorize",
        data=f'{{"idToken":"{EMAID}"}}',
        answer=pnc.AuthorizeResponse(pnc.IdTokenInfo("Perhaps")),  # type: ignore[arg-type]
        fault="idTokenInfo.status",
    ),
    NotAnswered(
        name="Authorize, not answered",
        message_id="Authorize",
        data=f'{{"idToken":"{EMAID}"}}',
        answer=None,
        fault="Answering.authorize gives an answer, and Authorize does not allow it",
    ),
    Asked(
        name="Get15118EVCertificate, the longest",
        message_id="Get15118EVCertificate",
        data=EV % ('"Install"', "e" * 5600),
        given=pnc.Get15118EVCertificateRequest(
            "urn:iso:15118:2:2013:MsgDef", "Install", "e" * 5600
        ),
        answer=pnc.Get15118EVCertificateResponse("Accepted", "a" * 5600),
        sent=f'{{"status":"Accepted","exiResponse":"{"a" * 5600}"}}',
    ),
    Refused(
        name="Get15118EVCertificate, one character more",
        message_id="Get15118EVCertificate",
        data=EV % ('"Install"', "e" * 5601),
        fault="exiRequest",
    ),
    Refused(
        name="Get15118EVCertificate, an action that is none",
        message_id="Get15118EVCertificate",
        data=EV % ('"install"', "e"),
        fault="action",
    ),
    NotAnswered(
        name="Get15118EVCertificate, answered with too much",
        message_id="Get15118EVCertificate",
        data=EV % ('"Update"', "e"),
        answer=pnc.Get15118EVCertificateResponse("Accepted", "a" * 5601),
        fault="exiResponse",
    ),
    Asked(
        name="GetCertificateStatus",
        message_id="GetCertificateStatus",
        data=f'{{"ocspRequestData":{HASH},"responderURL":"http://o"}}}}',
        given=pnc.GetCertificateStatusRequest(
            pnc.CertificateHashData("SHA256", "b7f1", "27ac", "3041", "http://o")
        ),
        answer=pnc.GetCertificateStatusResponse("Accepted", "MIIB"),
        sent='{"status":"Accepted","ocspResult":"MIIB"}',
    ),
    Asked(
        name="GetCertificateStatus, failed",
        message_id="GetCertificateStatus",
        data=f'{{"ocspRequestData":{HASH}}}}}',
        given=pnc.GetCertificateStatusRequest(HASH_DATA),
        answer=pnc.GetCertificateStatusResponse("Failed"),
        sent='{"status":"Failed"}',
    ),
    Refused(
        name="GetCertificateStatus, a serial number of 41 characters",
        message_id="GetCertificateStatus",
        data=f'{{"ocspRequestData":{HASH.replace("3041", "3" * 41)}}}}}',
        fault="serialNumber",
    ),
    NotAnswered(
        name="GetCertificateStatus, a result of 5,501 characters",
        message_id="GetCertificateStatus",
        data=f'{{"ocspRequestData":{HASH}}}}}',
        answer=pnc.GetCertificateStatusResponse("Accepted", "M" * 5501),
        fault="ocspResult",
    ),
    Asked(
        name="SignCertificate",
        message_id="SignCertificate",
        data='{"csr":"-----BEGIN CERTIFICATE REQUEST-----\\nMIH\\n"}',
        given=pnc.SignCertificateRequest("-----BEGIN CERTIFICATE REQUEST-----\nMIH\n"),
        answer=pnc.SignCertificateResponse("Accepted"),
        sent='{"status":"Accepted"}',
    ),
    Refused(name="SignCertificate, empty", message_id="SignCertificate", data="{}", fault="csr"),
    Refused(
        name="SignCertificate, a request of 5,501 characters",
        message_id="SignCertificate",
        data=f'{{"csr":"{"c" * 5501}"}}',
        fault="csr",
    ),
    NotAnswered(
        name="SignCertificate, answered with the status of another message",
        message_id="SignCertificate",
        data='{"csr":"PEM"}',
        answer=pnc.SignCertificateResponse("Failed"),  # type: ignore[arg-type]
        fault="status",
    ),
    # ---- to the station ----
    Sent(
        name="CertificateSigned",
        command=pnc.certificate_signed,
        data=pnc.CertificateSignedRequest("c" * 10_000),
        wire=f'{{"certificateChain":"{"c" * 10_000}"}}',
        answer='{"status":"Rejected"}',
        read=pnc.CertificateSignedResponse("Rejected"),
    ),
    NotSent(
        name="CertificateSigned, one character more",
        command=pnc.certificate_signed,
        data=pnc.CertificateSignedRequest("c" * 10_001),
        fault="CertificateSigned does not allow it: .*certificateChain",
    ),
    Sent(
        name="CertificateSigned, a station without an answer of its own",
        command=pnc.certificate_signed,
        data=pnc.CertificateSignedRequest("c"),
        fault="required and missing",
    ),
    Sent(
        name="DeleteCertificate",
        command=pnc.delete_certificate,
        data=pnc.DeleteCertificateRequest(HASH_DATA),
        wire=f'{{"certificateHashData":{HASH}}}}}',
        answer='{"status":"NotFound"}',
        read=pnc.DeleteCertificateResponse("NotFound"),
    ),
    NotSent(
        name="DeleteCertificate, an algorithm that is none",
        command=pnc.delete_certificate,
        data=pnc.DeleteCertificateRequest(
            pnc.CertificateHashData("MD5", "a", "b", "c")  # type: ignore[arg-type]
        ),
        fault="hashAlgorithm",
    ),
    Sent(
        name="DeleteCertificate, a status that is none",
        command=pnc.delete_certificate,
        data=pnc.DeleteCertificateRequest(HASH_DATA),
        answer='{"status":"Deleted"}',
        fault="status",
    ),
    Sent(
        name="GetInstalledCertificateIds, all",
        command=pnc.get_installed_certificate_ids,
        data=pnc.GetInstalledCertificateIdsRequest(),
        wire="{}",
        answer='{"status":"NotFound"}',
        read=pnc.GetInstalledCertificateIdsResponse("NotFound"),
    ),
    Sent(
        name="GetInstalledCertificateIds, of one use",
        command=pnc.get_installed_certificate_ids,
        data=pnc.GetInstalledCertificateIdsRequest(["V2GCertificateChain"]),
        wire='{"certificateType":["V2GCertificateChain"]}',
        answer='{"status":"Accepted","certificateHashDataChain":[{"certificateType":'
        f'"V2GCertificateChain","certificateHashData":{HASH}}},'
        f'"childCertificateHashData":[{HASH}}}]}}]}}',
        read=pnc.GetInstalledCertificateIdsResponse(
            "Accepted",
            [pnc.CertificateHashDataChain("V2GCertificateChain", HASH_DATA, [HASH_DATA])],
        ),
    ),
    NotSent(
        name="GetInstalledCertificateIds, of a use that is none",
        command=pnc.get_installed_certificate_ids,
        data=pnc.GetInstalledCertificateIdsRequest(["All"]),  # type: ignore[list-item]
        fault="certificateType",
    ),
    Sent(
        name="InstallCertificate",
        command=pnc.install_certificate,
        data=pnc.InstallCertificateRequest("MORootCertificate", "PEM"),
        wire='{"certificateType":"MORootCertificate","certificate":"PEM"}',
        answer='{"status":"Failed"}',
        read=pnc.InstallCertificateResponse("Failed"),
    ),
    NotSent(
        name="InstallCertificate, a use that OCPP 2.0.1 has and the note has not",
        command=pnc.install_certificate,
        data=pnc.InstallCertificateRequest("CSMSRootCertificate", "PEM"),  # type: ignore[arg-type]
        fault="certificateType",
    ),
    Sent(
        name="TriggerMessage",
        command=pnc.trigger_message,
        wire="{}",
        answer='{"status":"NotImplemented"}',
        read=pnc.TriggerMessageResponse("NotImplemented"),
    ),
]


@pytest.mark.parametrize(("row", "form"), played(ROWS))
async def test_every_message_has_its_one_right_outcome(row: Row, form: Form) -> None:
    await row.play(pnc, form)


def test_no_message_is_left_out() -> None:
    assert missing(pnc, ROWS) == set()


class Csms:
    """One that type checkers look at."""

    async def authorize(self, call: Call, data: pnc.AuthorizeRequest) -> pnc.AuthorizeResponse:
        known = data.emaid == EMAID
        return pnc.AuthorizeResponse(pnc.IdTokenInfo("Accepted" if known else "Invalid"))

    async def get_15118_ev_certificate(
        self, call: Call, request: pnc.Get15118EVCertificateRequest
    ) -> pnc.Get15118EVCertificateResponse:
        return pnc.Get15118EVCertificateResponse("Accepted", request.exi_request)

    async def get_certificate_status(
        self, call: Call[Any], data: pnc.GetCertificateStatusRequest
    ) -> pnc.GetCertificateStatusResponse:
        return pnc.GetCertificateStatusResponse("Failed")

    def sign_certificate(
        self, call: Call, data: pnc.SignCertificateRequest
    ) -> pnc.SignCertificateResponse:
        """A plain function runs in a thread."""
        return pnc.SignCertificateResponse("Rejected")


@pytest.mark.parametrize("token", [EMAID, {"idToken": EMAID, "type": "eMAID"}])
async def test_a_contract_is_known_however_it_is_sent(token: Any) -> None:
    response = await ask(pnc.router(Csms()), pnc.VENDOR_ID, "Authorize", {"idToken": token})
    assert response.data == {"idTokenInfo": {"status": "Accepted"}}


async def test_a_plain_function_answers() -> None:
    response = await ask(pnc.router(Csms()), pnc.VENDOR_ID, "SignCertificate", {"csr": "PEM"})
    assert response.data == {"status": "Rejected"}


async def test_what_only_the_csms_sends_is_unknown_from_a_station() -> None:
    response = await ask(pnc.router(Csms()), pnc.VENDOR_ID, "InstallCertificate", {})
    assert response.status == "UnknownMessageId"


def test_options_are_those_of_a_router() -> None:
    assert pnc.router(Csms(), prefetch=5, timeout=3).prefetch == 5
    with pytest.raises(HandlerError, match="prefetch"):
        pnc.router(Csms(), prefetch=0)
