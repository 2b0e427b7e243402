"""A message that the CSMS sends to stations, written down: its vendor, its name, its types."""

from typing import Any

from msgspec import UNSET

from bridge.ocpp import DataTransferRequest
from bridge.ocpp.data_transfer import MESSAGE_ID_MAX_LENGTH, VENDOR_ID_MAX_LENGTH
from bridge.routing.answer import what_is_wrong
from bridge.routing.data import data_reader
from bridge.routing.errors import HandlerError


class ToStation:
    """What is said of a message to stations, and what ``dtbridge schema`` describes of it."""

    def __init__(
        self,
        vendor_id: str,
        message_id: str | None = None,
        *,
        data: Any = None,
        answer: Any = None,
        description: str = "",
    ) -> None:
        """`vendor_id`: at most 255 characters; `message_id`: at most 50; None: it has none.

        `data`: the type of what is sent, anything that msgspec encodes. `answer`: that of the data
        of an answer that accepts, anything that a handler could be given. None: no data.
        `description`: what it is for, for whoever reads the schema.

        Raises :class:`HandlerError` for ids that OCPP does not allow, and for types of which
        msgspec could not write the one or read the other.
        """
        for text, name, length in (
            (vendor_id, "vendorId", VENDOR_ID_MAX_LENGTH),
            (message_id or "", "messageId", MESSAGE_ID_MAX_LENGTH),
        ):
            if type(text) is not str or len(text) > length:
                raise HandlerError(
                    f"a {name} is a string of at most {length} characters, not {text!r:.80}"
                )
        self.vendor_id = vendor_id
        self.message_id = message_id or None
        self.data = data
        self.answer = answer
        self.description = description
        wrong = what_is_wrong(data)
        if wrong is not None:
            raise HandlerError(f"{self!r} cannot be sent with {wrong.partition(':')[0]}")
        data_reader(answer, name=f"the answer to {self!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.vendor_id!r} {self.message_id!r}>"


class StationMessage(ToStation):
    """One message of a vendor from the CSMS to its stations, with the types of what is said.

    The types of handlers tell what stations send. This tells what stations are sent, so that
    ``dtbridge schema`` can describe it, and a :class:`~bridge.Client` can send it:

    >>> show_text = StationMessage("com.acme", "ShowText", data=Text, answer=Shown)
    >>> request = show_text.request(Text("Hello"))
    >>> response = await client.send_to_station("CP001", request, answer=show_text.answer)
    """

    def request(self, data: Any = UNSET) -> DataTransferRequest:
        """The request, with this data; ``msgspec.UNSET``: without any."""
        return DataTransferRequest(self.vendor_id, self.message_id, data)
