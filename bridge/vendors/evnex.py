"""Evnex: a message that carries no data at all.

Source: public reports. The vendor has published no description.

GetNetStat              no data                       → no data
"""

from typing import Final

VENDOR_ID: Final = "Evnex"
