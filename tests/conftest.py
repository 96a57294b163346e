"""Fixtures of the whole suite, each plugin in a file of its own."""

pytest_plugins = [
    "tests.fixtures.engines",
    "tests.fixtures.postgres",
    "tests.fixtures.standby",
    "tests.fixtures.redis",
    "tests.fixtures.server",
    "tests.fixtures.keeping",
    "tests.fixtures.rungs",
]
