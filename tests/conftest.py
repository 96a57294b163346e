"""Fixtures of the whole suite, each plugin in a file of its own."""

import pytest

_LONGEST = ("test_chaos", "test_workers", "test_auth_rows", "test_soak", "test_envoy", "test_abuse")
"""Files that take minutes, in this order."""

pytest_plugins = [
    "tests.fixtures.engines",
    "tests.fixtures.postgres",
    "tests.fixtures.standby",
    "tests.fixtures.redis",
    "tests.fixtures.server",
    "tests.fixtures.keeping",
    "tests.fixtures.rungs",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: at the end nobody waits for one that began last."""
    items.sort(key=lambda item: (*_LONGEST, item.path.stem).index(item.path.stem))
