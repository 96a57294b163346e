"""The settings of the index."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sharding.settings import RedisSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": ("host",)},
        {"nodes": ("h:1",), "operation_timeout_s": 0},
        {"nodes": ("h:1",), "unknown": 1},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """Nodes come with their ports, times have bounds, and no name is unknown."""
    with pytest.raises(ValidationError):
        RedisSettings.model_validate(wrong)


def test_nodes_may_be_one_text() -> None:
    """As an environment variable has them."""
    settings = RedisSettings.model_validate({"nodes": "a:1, b:2"})

    assert settings.nodes == ("a:1", "b:2")


def test_passwords_are_not_printed() -> None:
    """Neither the user's nor the admin's."""
    settings = RedisSettings.model_validate(
        {"nodes": ("h:1",), "password": "geheim", "admin_password": "geheim"}
    )

    assert "geheim" not in repr(settings)
