"""EV-BOX: `data` is comma-separated text, in which braces group several values into one field.

Source: public logs of EV-BOX stations, such as github.com/evcc-io/evcc pull request 14733 and
github.com/lbbrhzn/ocpp issue 221. The vendor has published no description, and the number of fields
depends on the firmware.

evbStatusNotification       str, see split_fields     → no data
evbWifiStatusNotification   str                       → no data
evbConnectionInfo           str                       → no data
"""

from typing import Final

VENDOR_ID: Final = "EV-BOX"


def split_fields(text: str) -> list[str]:
    """The fields of `text`: `1,Charging,{32,22000,53}` has three, the last in its braces."""
    fields, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            fields.append("")
        else:
            fields[-1] += character
    return fields
