"""What a request gets, as its requester sees it: a row for each case of decision_table_vendors."""

import json
from typing import Any

COULD_NOT_PROCESS = "The request could not be processed."


class Row:
    """A request and the answer it gets.

    An answer that differs between OCPP 1.6 and later versions is given as a pair.
    """

    def __init__(
        self, payload: Any, answer: Any, *, within: float | None = None, vendor: str = "com.acme"
    ) -> None:
        """`within`: seconds until the deadline. `answer`: None if the request gets none."""
        self.body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.answers = answer if isinstance(answer, tuple) else (answer, answer)
        self.within = within
        self.vendor = vendor

    def answer(self, version: str) -> Any:
        return self.answers[version != "ocpp1.6"]


def ask(message: str | None = None, data: Any = None, vendor: str = "COM.ACME") -> dict[str, Any]:
    parts = {"vendorId": vendor, "messageId": message, "data": data}
    return {name: part for name, part in parts.items() if part is not None}


def response(status: str, **more: Any) -> dict[str, Any]:
    return {"type": "DataTransferResponse", "body": {"status": status, **more}}


def call_error(code: str, text: str) -> dict[str, Any]:
    return {
        "type": "CallError",
        "body": {"errorCode": code, "errorDescription": text, "errorDetails": {}},
    }


def per_version(in_1_6: str, later: str, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return call_error(in_1_6, text), call_error(later, text)


PRICE = {"currency": "EUR", "price": 0.25}
ROWS = {
    "a typed value": Row(
        ask("Value", PRICE),
        (
            response("Accepted", data='{"currency":"EUR","price":0.5}'),
            response("Accepted", data={"currency": "EUR", "price": 0.5}),
        ),
    ),
    "data as JSON text": Row(
        ask("value", json.dumps(PRICE)),
        (
            response("Accepted", data='{"currency":"EUR","price":0.5}'),
            response("Accepted", data={"currency": "EUR", "price": 0.5}),
        ),
    ),
    "None": Row(ask("Nothing"), response("Accepted")),
    "a plain function": Row(ask("Thread", "abc"), response("Accepted", data="ABC")),
    "a response of its own": Row(
        ask("Response"),
        (
            response("Rejected", data="as it is"),
            response("Rejected", data="as it is", statusInfo={"reasonCode": "Busy"}),
        ),
    ),
    "an invalid response": Row(
        ask("InvalidResponse"), call_error("InternalError", COULD_NOT_PROCESS)
    ),
    "Rejected": Row(
        ask("Rejected"),
        (
            response("Rejected"),
            response(
                "Rejected", statusInfo={"reasonCode": "NoTariff", "additionalInfo": "not here"}
            ),
        ),
    ),
    "unknown vendor": Row(
        ask("Value", vendor="Nobody"), response("UnknownVendorId"), vendor="Nobody"
    ),
    "unknown message": Row(ask("Unheard"), response("UnknownMessageId")),
    "no message, no default": Row(ask(), response("UnknownMessageId")),
    "no message, a default": Row(ask(vendor="EN+"), response("Accepted"), vendor="EN+"),
    "any message, a default": Row(
        ask("X", vendor="en+"), response("Accepted", data="X"), vendor="EN+"
    ),
    "data of another type": Row(
        ask("Value", {"currency": "EUR", "price": "much"}),
        (
            response("Rejected"),
            response(
                "Rejected",
                statusInfo={
                    "reasonCode": "InvalidData",
                    "additionalInfo": "data.price: expected a number, got a string",
                },
            ),
        ),
    ),
    "not JSON": Row(
        b'{"vendorId"',
        per_version(
            "FormationViolation",
            "FormatViolation",
            "payload: not valid JSON (Input data was truncated)",
        ),
    ),
    "no vendorId": Row(
        {"messageId": "Value"},
        per_version(
            "OccurenceConstraintViolation",
            "OccurrenceConstraintViolation",
            "vendorId: required field is missing",
        ),
    ),
    "vendorId too long": Row(
        ask("Value", vendor="v" * 256),
        call_error(
            "PropertyConstraintViolation", "vendorId: expected a string of at most 255 characters"
        ),
    ),
    "vendorId a number": Row(
        {"vendorId": 1},
        call_error("TypeConstraintViolation", "vendorId: expected a string, got an integer"),
    ),
    "Retry, then well": Row(ask("ComesBack"), response("Accepted", data="at last"), within=20.0),
    "Retry until the deadline": Row(
        ask("NeverWorks"), call_error("InternalError", COULD_NOT_PROCESS), within=6.0
    ),
    "an exception": Row(ask("Raises"), call_error("InternalError", COULD_NOT_PROCESS)),
    "a hanging handler": Row(
        ask("Hangs"), call_error("GenericError", "The request took too long to process.")
    ),
    "deadline past before": Row(ask("Nothing"), None, within=-1.0),
    "deadline past after": Row(ask("Sleeps"), None, within=0.1),
    "who asks": Row(
        ask("Context"),
        None,  # it differs with every version: see `expected`
    ),
}
DEAD = {
    "an invalid response",
    "Retry until the deadline",
    "an exception",
    "a hanging handler",
    "deadline past before",
}
"""The rows whose request is kept in the dead-letter queue.

The request whose deadline passes meanwhile is kept, too, if its handler was cancelled in time."""


def expected(row: str, version: str, station: str = "CP-1") -> Any:
    """What `station` gets for the CALL with the message id "ocpp-7"; None if it gets nothing."""
    if row != "who asks":
        return ROWS[row].answer(version)
    context = {"station": station, "version": version, "id": "ocpp-7"}
    if version == "ocpp1.6":
        return response("Accepted", data=json.dumps(context, separators=(",", ":")))
    return response("Accepted", data=context)
