"""An error of the client is a sentence, and of a kind that callers know."""

import pytest

from bridge.client.errors import NoAnswer, NotAccepted, StationOffline, no_queue
from bridge.transport import TransportError


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (False, "station 'CP1' is not connected"),
        (True, "station 'CP1' is not connected: it was lost after it had been sent the request"),
    ],
)
def test_an_offline_station_is_named_and_so_is_what_it_may_have_had(sent: bool, text: str) -> None:
    error = StationOffline("CP1", sent=sent)
    assert (str(error), error.station_id, error.sent) == (text, "CP1", sent)


def test_errors_are_of_the_kinds_that_callers_know() -> None:
    assert issubclass(NoAnswer, TimeoutError)
    assert issubclass(StationOffline, ConnectionError)
    assert issubclass(NotAccepted, TransportError)


def test_where_no_queue_is_the_topology_is_asked_for() -> None:
    assert str(no_queue()) == "no queue takes the request: is the topology declared?"
