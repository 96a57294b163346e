"""The rooms have plain names: nobody else's package may stand in for one of them."""

import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "bench",
    "bootstrap",
    "chaos",
    "cli",
    "core",
    "jobs",
    "resilience",
    "server",
    "sharding",
    "storage",
)


def test_import_finds_our_rooms(tmp_path: Path) -> None:
    """From anywhere, without the current directory on the path, a room is this project's."""
    lines = "\n".join(f"import {room}; print({room}.__file__)" for room in ROOMS)
    found = subprocess.run(
        [sys.executable, "-P", "-c", lines],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert [str(ROOT / room / "__init__.py") for room in ROOMS] == found.stdout.split()


def test_names_are_taken_by_nobody_else() -> None:
    """Neither the standard library nor an installed package has a module of a room's name."""
    elsewhere = [place for place in sys.path if place and Path(place).resolve() != ROOT]
    strangers = [room for room in ROOMS if PathFinder.find_spec(room, elsewhere)]

    assert strangers == []
    assert sys.stdlib_module_names.isdisjoint(ROOMS)


def test_no_room_is_forgotten() -> None:
    """Every package at the top is in the list above, and so in these tests."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}

    assert set(ROOMS) == packages
