"""Suites for whoever writes a store of replies, a dialect or a transport: what each must keep.

Subclass a suite in a module of your tests, and give it the fixture that it asks for:

>>> class TestMyStore(StoreSuite):
...     @pytest_asyncio.fixture
...     async def store(self):
...         async with MyStore() as store:
...             yield store

They are for pytest with pytest-asyncio, which the extra ``testing`` brings. Those of the
bridge itself are tried by them.
"""

from bridge.testing.conformance.bindings import BindingSuite
from bridge.testing.conformance.dialects import DialectSuite, Gateway
from bridge.testing.conformance.emitting import EmittingSuite
from bridge.testing.conformance.pausing import PausingSuite
from bridge.testing.conformance.sides import NAMES, PATIENCE, Log, Received, Side
from bridge.testing.conformance.stores import SharedStoreSuite, StoreSuite
from bridge.testing.conformance.transports import TransportSuite

__all__ = [
    "NAMES",
    "PATIENCE",
    "BindingSuite",
    "DialectSuite",
    "EmittingSuite",
    "Gateway",
    "Log",
    "PausingSuite",
    "Received",
    "SharedStoreSuite",
    "Side",
    "StoreSuite",
    "TransportSuite",
]
