"""The suite for transports, put together."""

from bridge.testing.conformance.delays import Delays
from bridge.testing.conformance.deliveries import Deliveries
from bridge.testing.conformance.lives import Lives
from bridge.testing.conformance.publishings import Publishings


class TransportSuite(Deliveries, Delays, Publishings, Lives):
    """The promises of :mod:`bridge.transport`. It asks for a fixture `side`: a :class:`Side`.

    What gateways, events and pauses need of a transport besides is in ``BindingSuite``,
    ``EmittingSuite`` and ``PausingSuite``.
    """
