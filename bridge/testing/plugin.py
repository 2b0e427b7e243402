"""Fixtures for pytest, which finds this module by the entry point ``pytest11``.

``bridge``
    A :class:`~bridge.testing.TestBridge` for one test. What it runs is said by the mark of the
    test, ``@pytest.mark.bridge(router, …)``, whose keywords are those of ``TestBridge``; or else by
    the fixture ``bridge_routers``, which a module or a conftest.py defines.
``private_rabbitmq``
    A RabbitMQ of one's own for the whole run: :class:`~bridge.testing.rabbitmq.PrivateBroker`.

This module is imported in every run of pytest where the package is installed. So it imports nothing
but pytest; all else comes with the first fixture that needs it.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from bridge import Router
    from bridge.testing.kit import TestBridge
    from bridge.testing.rabbitmq import PrivateBroker

MARK: Final = "bridge(*routers, **options): what the fixture `bridge` runs; options of TestBridge"

pytest.register_assert_rewrite("bridge.testing.conformance")


@pytest.fixture
def bridge_routers() -> "list[Router]":
    """The routers that the fixture ``bridge`` runs: define it in your module or conftest.py."""
    pytest.fail(
        "the fixture `bridge` does not know what to run: mark the test with"
        " @pytest.mark.bridge(router), or define a fixture `bridge_routers` that returns"
        " the router, or a list of them",
        pytrace=False,
    )


async def _bridge(request: pytest.FixtureRequest) -> "AsyncIterator[TestBridge]":
    """A bridge that runs the routers of the test."""
    from bridge.testing.kit import TestBridge

    mark = request.node.get_closest_marker("bridge")
    routers: Any = mark.args if mark else ()
    if not routers:
        routers = request.getfixturevalue("bridge_routers")
    async with TestBridge(routers, **(mark.kwargs if mark else {})) as bridge:
        yield bridge


def _no_bridge() -> None:
    """A bridge that runs the routers of the test."""
    pytest.fail(
        "the fixture `bridge` is async, and nothing runs async tests here:"
        " pip install pytest-asyncio",
        pytrace=False,
    )


@pytest.fixture(scope="session")
def private_rabbitmq() -> "Iterator[PrivateBroker]":
    """A RabbitMQ on loopback, gone at the end of the run; each test can have a virtual host of it.

    The test fails with what to do if there is no RabbitMQ on this machine.
    """
    from bridge.testing.rabbitmq import BrokerUnavailable, PrivateBroker, find_server

    with ExitStack() as stack:
        try:
            if installed := find_server():
                broker = stack.enter_context(PrivateBroker(name="pytest", server=installed))
        except BrokerUnavailable as error:
            pytest.fail(str(error), pytrace=False)
        if installed is None:
            pytest.fail(
                "RabbitMQ is not installed: `python -m bridge.testing.rabbitmq ensure` does it.",
                pytrace=False,
            )
        yield broker


def pytest_configure(config: pytest.Config) -> None:
    """Make the fixture ``bridge`` one that the async plugin of this run knows."""
    config.addinivalue_line("markers", MARK)
    plugins = config.pluginmanager
    fixtures = ModuleType("dtbridge_fixtures")
    fixtures.__doc__ = "What depends on the plugin that runs async fixtures."
    if plugins.hasplugin("asyncio"):
        import pytest_asyncio

        vars(fixtures)["bridge"] = pytest_asyncio.fixture(_bridge, name="bridge")
    else:
        bridge = _bridge if plugins.hasplugin("anyio") else _no_bridge
        vars(fixtures)["bridge"] = pytest.fixture(bridge, name="bridge")
    plugins.register(fixtures, "dtbridge-fixtures")
