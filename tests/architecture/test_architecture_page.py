"""docs/ARCHITECTURE.md is true: every path that it names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
# A path begins with a folder of ours and may hold a `*`; sentences may end right after it.
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*[\w*/]")


def test_page_names_paths() -> None:
    """The page is there and speaks of files."""
    assert len(PATH.findall(PAGE.read_text())) > 0


def test_named_paths_exist() -> None:
    """What the page names can be opened."""
    named = sorted(set(PATH.findall(PAGE.read_text())))

    assert [] == [path for path in named if not any(ROOT.glob(path))]
