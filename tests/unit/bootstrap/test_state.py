"""The directory of a server: of one alone."""

from pathlib import Path

import pytest

from bootstrap.errors import NotConfigured
from bootstrap.state import held


def test_a_directory_is_made_and_kept_for_one(tmp_path: Path) -> None:
    """A second server is told whose it is to choose; after the first, the next one may."""
    directory = tmp_path / "deep" / "state"
    with (
        held(directory),
        pytest.raises(NotConfigured, match="STANDINGS_STATE_DIRECTORY"),
        held(directory),
    ):
        pass
    with held(directory):
        assert directory.is_dir()
