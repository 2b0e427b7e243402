"""The requester's side: ask as a station's gateway would, or ask stations as the CSMS."""
