"""What the image is made of is listed, and nobody's licence is a surprise."""

import re
from pathlib import Path

import pytest

from tests.supply.licences import PAGE, ROOT, Part, page, parts


def test_the_page_is_current() -> None:
    """`make licences` would change nothing."""
    assert PAGE.read_text() == page()


def test_no_licence_is_unknown_or_asks_for_more() -> None:
    """A new dependency under another licence is argued for first."""
    assert [part for part in parts() if not part.accepted] == []


@pytest.mark.parametrize(
    ("licence", "accepted"),
    [
        ("MIT", True),
        ("Apache-2.0 AND BSD-2-Clause", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("LGPL-3.0-only", False),
        ("AGPL-3.0-only", False),
        ("", False),
        ("Proprietary", False),
    ],
)
def test_what_is_accepted(licence: str, *, accepted: bool) -> None:
    """Of alternatives one is enough; of conditions none may ask for more."""
    assert Part("new", "1", licence).accepted == accepted


@pytest.mark.parametrize(
    "file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda f: f.name
)
def test_every_requirement_is_pinned_and_hashed(file: Path) -> None:
    """No line can be fulfilled by anything but the very files that were locked."""
    blocks = re.split(r"\n(?=\S)", file.read_text().strip())

    assert blocks
    for block in blocks:
        assert re.match(r"[a-z0-9.-]+==\S+", block), block
        assert "--hash=sha256:" in block
