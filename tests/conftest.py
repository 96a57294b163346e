"""Fixtures of the whole suite, each plugin in a file of its own."""

import pytest

_LONGEST = ("test_auth_rows", "test_removal", "test_core", "test_compose_stores", "test_secrets")
"""Files that take minutes, in this order."""
_ALONE = (
    "alone: holds how well or how soon something is served; nothing else may keep the machine busy"
)

pytest_plugins = [
    "tests.fixtures.engines",
    "tests.fixtures.postgres",
    "tests.fixtures.standby",
    "tests.fixtures.redis",
    "tests.fixtures.server",
    "tests.fixtures.keeping",
    "tests.fixtures.rungs",
]


def pytest_configure(config: pytest.Config) -> None:
    """Makes the suite's own marker known."""
    config.addinivalue_line("markers", _ALONE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: at the end nobody waits for one that began last."""
    items.sort(key=lambda item: (*_LONGEST, item.path.stem).index(item.path.stem))
