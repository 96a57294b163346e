"""Which stores a process takes."""

from __future__ import annotations

import pytest

from bootstrap.settings import Settings, SettingsInvalid
from bootstrap.stores import open_stores


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"STANDINGS_POSTGRES_DSN": "host=db"}, "set both, or neither"),
        ({"STANDINGS_REDIS_NODES": "a:1"}, "set both, or neither"),
        ({"STANDINGS_POSTGRES_REPLICA_DSNS": "host=db"}, "STANDINGS_POSTGRES_REPLICA_DSNS"),
    ],
)
async def test_no_real_store_stands_beside_an_embedded_one(
    environment: dict[str, str], named: str
) -> None:
    """Nothing is started: not one of the two alone, and no replica of an embedded primary."""
    with pytest.raises(SettingsInvalid, match=named):
        async with open_stores(Settings.load(environment)):
            pass
