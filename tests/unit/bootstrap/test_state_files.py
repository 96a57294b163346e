"""What a machine keeps: snapshots, the boards in use, and what signs tokens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootstrap.snapshot_files import SnapshotFiles
from bootstrap.state_files import replace_file
from bootstrap.used_boards import UsedBoards, seasons_used_since
from core.clock import SystemClock
from core.types import Board, Season, SortOrder
from tests.fakes.making import board_spec
from tests.fakes.snapshot_making import snapshot_of

CLOCK = SystemClock()


def board(name: str, number: int, *, version: int = 1, season: int = 0) -> Board:
    """A board whose season has its number, unless said otherwise."""
    spec = board_spec(name, sort_order=SortOrder.ASCENDING, min_score=-5)
    return Board(number, spec, Season(season or number, "s1"), version, 10, 20)


def season(*, made_ms: int = 1, number: int = 1) -> object:
    """A snapshot of one entry."""
    return snapshot_of([(bytes(31) + b"\x01", bytes(6))], season_number=number, made_ms=made_ms)


async def test_a_snapshot_is_read_by_every_worker(tmp_path: Path) -> None:
    """The newest one, by whoever it was written; an own file system each would not do."""
    mine, theirs = SnapshotFiles(tmp_path, CLOCK), SnapshotFiles(tmp_path, CLOCK)
    assert theirs.newest(1) is None

    for made_ms in (1, 2):
        await mine.keep(season(made_ms=made_ms))
        assert theirs.newest(1) == season(made_ms=made_ms)
        assert theirs.newest(1) is theirs.newest(1)
    assert theirs.newest(2) is None
    assert (tmp_path / "snapshots" / "1.snapshot").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("data", [b"", b"SNP1", bytes(200)])
async def test_a_broken_snapshot_is_none(tmp_path: Path, data: bytes) -> None:
    """Until there is a whole one."""
    files = SnapshotFiles(tmp_path, CLOCK)
    (tmp_path / "snapshots" / "1.snapshot").write_bytes(data)

    assert files.newest(1) is None
    await files.keep(season())
    assert files.newest(1) == season()


async def test_a_full_disk_keeps_the_old_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves no draft behind."""
    files = SnapshotFiles(tmp_path, CLOCK)
    await files.keep(season(made_ms=1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    await files.keep(season(made_ms=2))

    assert files.newest(1) == season(made_ms=1)
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["1.snapshot"]


async def test_what_was_used_in_the_last_minute_is_due(tmp_path: Path) -> None:
    """By any worker, those with the oldest snapshots first; what nobody used for a day goes."""
    workers = [UsedBoards(tmp_path, CLOCK) for _ in range(2)]
    files = SnapshotFiles(tmp_path, CLOCK)
    for number in (1, 2, 3, 4, 5):
        workers[number % 2].use(board(f"b{number}", number))
    for used in workers:
        await used.write()
    for number in (1, 2, 5):
        await files.keep(season(number=number))
    now_s = CLOCK.now_ms() / 1000
    os.utime(tmp_path / "snapshots" / "1.snapshot", (now_s - 5, now_s - 5))
    os.utime(tmp_path / "boards" / "4.json", (now_s - 61, now_s - 61))
    for path in ("boards/5.json", "snapshots/5.snapshot"):
        os.utime(tmp_path / path, (now_s - 90_000, now_s - 90_000))

    assert await files.due(limit=10) == [3, 1, 2]
    assert await files.due(limit=1) == [3]
    assert files.newest(5) is None
    assert sorted(seasons_used_since(tmp_path, 0)) == [1, 2, 3, 4]


async def test_boards_outlive_the_process(tmp_path: Path) -> None:
    """As they were last defined; a name belongs to the youngest board that had it."""
    used = UsedBoards(tmp_path, CLOCK)
    assert used.count == 0
    for one in (board("a", 1), board("b", 2), board("b", 3), board("a", 1, version=4, season=9)):
        used.use(one)
    await used.write()
    replace_file(tmp_path / "boards" / "7.json", b"{", sync=False)

    again = UsedBoards(tmp_path, CLOCK)

    assert again.count == 2
    assert again.recall("a") == board("a", 1, version=4, season=9)
    assert again.recall("b") == board("b", 3)
    assert again.recall("c") is None


async def test_a_changed_definition_is_written_at_once(tmp_path: Path) -> None:
    """The same one only has its time moved, and that not each second."""
    used = UsedBoards(tmp_path, CLOCK)
    used.use(board("a", 1))
    await used.write()
    path = tmp_path / "boards" / "1.json"
    os.utime(path, (1, 1))

    used.use(board("a", 1))
    await used.write()
    assert path.stat().st_mtime == 1
    used.use(board("a", 1, version=2))
    await used.write()

    assert UsedBoards(tmp_path, CLOCK).recall("a") == board("a", 1, version=2)
