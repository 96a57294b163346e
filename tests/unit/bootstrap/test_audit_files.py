"""The files of a machine's audit: chained, locked, rotated, mended after a crash."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootstrap.audit_files import AuditFiles, audit_files
from core.audit_lines import Action, AuditLine, LineKind, parse_line
from core.audit_ports import AuditFilter, AuditPoint
from core.errors import AuditBroken, AuditUnavailable
from core.verify_audit import Chain, Walk

ACTION = Action("standings.v1.ModerationService/HideUser", "user/42", "ann", "ipv4:1", "cheats ü")
LARGE = 10**9


class Clock:
    """Wall time that goes on by a second a look."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        """A second later."""
        self.ms += 1000
        return self.ms

    def monotonic_s(self) -> float:
        """The same."""
        return self.ms / 1000


@pytest.fixture
def files(tmp_path: Path) -> AuditFiles:
    """An audit without a line."""
    return audit(tmp_path)


def audit(folder: Path, file_bytes_max: int = LARGE) -> AuditFiles:
    """That of a folder."""
    return AuditFiles(folder / "audit", Clock(), file_bytes_max=file_bytes_max)


def data_of(folder: Path) -> bytes:
    """All that is written, over all files."""
    return b"".join(path.read_bytes() for path in audit_files(folder / "audit"))


def lines_of(folder: Path) -> list[AuditLine]:
    """All lines, which have to be right."""
    lines = [parse_line(data) for data in data_of(folder).splitlines()]
    assert None not in lines
    return [line for line in lines if line is not None]


def walked(folder: Path) -> Chain:
    """The one chain that is there."""
    walk = Walk()
    for path in audit_files(folder / "audit"):
        for data in path.read_bytes().splitlines(keepends=True):
            walk.step(data.rstrip(b"\n"), path.name, ended=data.endswith(b"\n"))
    (chain,) = walk.chains.values()
    return chain


async def test_an_action_and_what_became_of_it(files: AuditFiles, tmp_path: Path) -> None:
    """Two lines of one chain, for their owner alone."""
    sequence = await files.begin(ACTION)
    await files.end(sequence, "OK", {"changed": True})
    action, outcome = lines_of(tmp_path)

    assert (action.sequence, outcome.sequence, outcome.previous) == (1, 2, action.hash)
    assert action.content["reason"] == "cheats ü"
    assert (outcome.kind, outcome.content["action"]) == (LineKind.OUTCOME, 1)
    assert outcome.content["result"] == {"changed": True}
    (path,) = audit_files(tmp_path / "audit")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert await files.head() == outcome.head
    assert walked(tmp_path).whole


async def test_a_line_is_on_the_disk_before_it_is_told(
    files: AuditFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is written when fsync is called, and the folder of a new file is synced, too."""
    synced: list[bytes | None] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(path.read_bytes() if path.is_file() else None)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    await files.begin(ACTION)
    await files.begin(ACTION)
    first, second = data_of(tmp_path).splitlines(keepends=True)

    assert synced == [first, None, first + second]


async def test_files_follow_each_other(tmp_path: Path) -> None:
    """The chain goes on from one into the next, which is named by its first line."""
    files = audit(tmp_path, 1500)
    for _ in range(20):
        await files.begin(ACTION)
    paths = audit_files(tmp_path / "audit")
    lines = lines_of(tmp_path)

    assert len(paths) > 4
    assert [line.sequence for line in lines] == list(range(1, 21))
    for path in paths:
        first = parse_line(path.read_bytes().splitlines()[0])
        assert first is not None
        assert first.sequence == int(path.stem)
        assert path.stat().st_size < 2500
    assert walked(tmp_path).whole
    assert [line.sequence for line in await files.lines_after(7, limit=5)] == [8, 9, 10, 11, 12]
    assert await files.lines_after(20, limit=5) == []


async def test_an_empty_file_is_filled_where_its_writer_was_killed(tmp_path: Path) -> None:
    """It was made, and nothing more."""
    files = audit(tmp_path, 100)
    await files.begin(ACTION)
    (tmp_path / "audit" / f"{2:012}.jsonl").touch()
    assert await files.begin(ACTION) == 2

    assert walked(tmp_path).last == 2
    assert len(audit_files(tmp_path / "audit")) == 2


@pytest.mark.parametrize("lines", [0, 1, 3])
@pytest.mark.parametrize("rotated", [False, True])
async def test_a_torn_line_is_closed_by_the_next(
    tmp_path: Path, lines: int, *, rotated: bool
) -> None:
    """Cut after any byte, its place is taken by a line that says so; nothing before it is lost."""
    files = audit(tmp_path, 10 if rotated else LARGE)
    for _ in range(lines + 1):
        await files.begin(ACTION)
    path = audit_files(tmp_path / "audit")[-1]
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(start + 1, len(whole) - 1, 17):
        for younger in audit_files(tmp_path / "audit"):
            if younger > path:
                younger.unlink()
        path.write_bytes(whole[:cut])
        sequence = await files.begin(ACTION)
        chain, torn = walked(tmp_path), lines_of(tmp_path)[-2]

        assert (sequence, chain.last, chain.whole) == (lines + 2, lines + 2, True)
        assert (torn.kind, torn.content["bytes"]) == (LineKind.TORN, cut - start)
        assert torn.content["fragment"] == whole[start:cut].decode("ascii")


async def test_a_line_that_lacks_its_end_alone_is_whole(files: AuditFiles, tmp_path: Path) -> None:
    """Nobody knows whether it was acted upon, so it stays."""
    for _ in range(2):
        await files.begin(ACTION)
    (path,) = audit_files(tmp_path / "audit")
    os.truncate(path, path.stat().st_size - 1)
    await files.begin(ACTION)

    assert [line.kind for line in lines_of(tmp_path)] == [LineKind.ACTION] * 3
    assert walked(tmp_path).whole


@pytest.mark.parametrize("damage", [b"x\n", b"{}\n", b"x" * 100_000])
async def test_nothing_is_written_behind_what_was_changed(
    files: AuditFiles, tmp_path: Path, damage: bytes
) -> None:
    """A last line that is whole and wrong, or more than a line: somebody has to look first."""
    await files.begin(ACTION)
    (path,) = audit_files(tmp_path / "audit")
    with path.open("ab") as file:
        file.write(damage)
    before = path.read_bytes()
    with pytest.raises(AuditBroken):
        await files.begin(ACTION)

    assert path.read_bytes() == before


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It is a file: whoever runs this, nothing can be in there."""
    (tmp_path / "audit").write_text("")
    with pytest.raises(AuditUnavailable):
        await audit(tmp_path).begin(ACTION)


@contextmanager
def full_at(size_bytes: int) -> Iterator[None]:
    """No file of this process grows past this, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_refuses_and_leaves_no_part_of_a_line(
    files: AuditFiles, tmp_path: Path
) -> None:
    """What fitted in of it is taken back, and once there is room all goes on."""
    await files.begin(ACTION)
    size_bytes = len(data_of(tmp_path))
    with full_at(size_bytes + 100):
        with pytest.raises(AuditUnavailable):
            await files.begin(ACTION)
        assert len(data_of(tmp_path)) == size_bytes
    await files.begin(ACTION)

    assert walked(tmp_path).last == 2


async def test_who_holds_the_lock_is_waited_for(files: AuditFiles, tmp_path: Path) -> None:
    """For a second; a frozen worker does not hold operators up for ever."""
    await files.begin(ACTION)
    lock = os.open(tmp_path / "audit" / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(AuditUnavailable):
        await files.begin(ACTION)
    waiting = asyncio.ensure_future(files.begin(ACTION))
    os.close(lock)

    assert await waiting == 2


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.unit.bootstrap.test_audit_files import ACTION, audit

async def write():
    files = audit(Path(sys.argv[1]), 4000)
    await asyncio.gather(*(files.begin(ACTION) for _ in range(25)))
asyncio.run(write())
"""


async def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    """No line is lost, doubled or mixed with another, while files follow each other."""
    root = Path(__file__).resolve().parents[3]
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], cwd=root) for _ in range(4)
    ]
    assert [await asyncio.to_thread(writer.wait, 60) for writer in writers] == [0] * 4

    chain = walked(tmp_path)
    assert (chain.first, chain.last, chain.whole) == (1, 100, True)
    assert len(audit_files(tmp_path / "audit")) > 5


async def test_events_are_read_newest_first(tmp_path: Path) -> None:
    """With their outcomes, over all files; filtered, and page by page."""
    files = audit(tmp_path, 1000)
    for number in range(6):
        other = Action(f"s/M{number % 2}", f"user/{number}", f"actor-{number % 3}")
        sequence = await files.begin(other)
        if number != 5:
            await files.end(sequence, "OK", {})

    async def targets(before: AuditPoint | None = None, **wanted: str) -> list[str]:
        found = await files.page(AuditFilter(**wanted), before=before, limit=3)
        return [event.action.content["target"] for event in found]

    first = await files.page(AuditFilter(), before=None, limit=3)
    assert [event.outcome is None for event in first] == [True, False, False]
    assert await targets() == ["user/5", "user/4", "user/3"]
    assert await targets(first[-1].point) == ["user/2", "user/1", "user/0"]
    assert await targets(actor="actor-1") == ["user/4", "user/1"]
    assert await targets(method="s/M0") == ["user/4", "user/2", "user/0"]
    assert await targets(target="user/2") == ["user/2"]
    times = [event.action.time for event in first]
    assert await targets(since=times[1]) == ["user/5", "user/4"]
    assert await targets(until=times[1]) == ["user/3", "user/2", "user/1"]
