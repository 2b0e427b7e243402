"""StarCharge: a charging station tells the ids of the vehicle that is plugged in.

Source: public reports. The vendor has published no description.

CarId                   list[str]                     → no data
"""

from typing import Final

VENDOR_ID: Final = "StarCharge"
