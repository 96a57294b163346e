"""The audit of a machine: JSON lines in files that all of its workers append to.

Files are named by the number of their first line. The chain goes on from each into the next, and
from one worker to the other: whoever appends holds the lock of the folder, reads where the chain
ends, and writes the next line with fsync. That is rare enough to be done anew each time.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from core.audit_lines import (
    LINE_BYTES_MAX,
    Action,
    AuditLine,
    Head,
    LineKind,
    action_content,
    next_line,
    outcome_content,
    parse_line,
    torn_content,
)
from core.audit_ports import AuditEvent, AuditFilter, AuditPoint
from core.errors import AuditBroken, AuditUnavailable
from core.ports import Clock

_log = logging.getLogger(__name__)

_LOCK_S: Final = 1.0
"""How long a frozen process that holds the lock is waited for."""
_ASK_AGAIN_S: Final = 0.005
_TAIL_BYTES: Final = 2 * LINE_BYTES_MAX
"""Of a file's end: its last line is in there, and one that was begun after it."""
_FRAGMENT_BYTES_MAX: Final = 4096
"""Of a torn line, what is kept of it in the line that stands in its place."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _End:
    """Where the newest file ends: its whole lines at `size_bytes`, then `torn`, what was begun of
    one more.
    """

    path: Path
    size_bytes: int
    head: Head
    torn: bytes = b""


class AuditFiles:
    """The `AuditFile` port over a folder that all workers of a machine share."""

    def __init__(self, folder: Path, clock: Clock, *, file_bytes_max: int) -> None:
        self._folder = folder
        self._clock = clock
        self._file_bytes_max = file_bytes_max

    async def begin(self, action: Action) -> int:
        """See `AuditTrail.begin`. Cost: an fsync, and a read of the file's end."""
        return await self._run(lambda: self._append(action_content(action)))

    async def end(self, sequence: int, status: str, result: Mapping[str, Any]) -> None:
        """See `AuditTrail.end`. Costs as `begin`."""
        await self._run(lambda: self._append(outcome_content(sequence, status, result)))

    async def head(self) -> Head | None:
        """See `AuditFile.head`."""
        return await self._run(self._head)

    async def lines_after(self, sequence: int, *, limit: int) -> Sequence[AuditLine]:
        """See `AuditFile.lines_after`."""
        return await self._run(lambda: self._lines_after(sequence, limit))

    async def page(
        self, wanted: AuditFilter, *, before: AuditPoint | None, limit: int
    ) -> Sequence[AuditEvent]:
        """See `AuditReads.page`. Cost: files are read whole, the newest first, until it is full."""
        return await self._run(lambda: self._page(wanted, before, limit))

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            _log.error("the audit cannot be used", extra={"error": error.strerror})
            raise AuditUnavailable from error
        except AuditBroken:
            _log.error("the last line of the audit is not what was written")
            raise

    def _append(self, content: Mapping[str, Any]) -> int:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            end = self._end()
            if end.torn:
                end = self._mended(end)
            return self._written(end, content).sequence

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end_s = time.monotonic() + _LOCK_S
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end_s:
                        raise
                time.sleep(_ASK_AGAIN_S)
            yield
        finally:
            os.close(lock)

    def _head(self) -> Head | None:
        head = self._end().head
        return head if head.sequence else None

    def _end(self) -> _End:
        """Where the chain ends; a new one begins where there is no line. Raises AuditBroken where
        the last line is whole and not what was written.
        """
        for path in reversed(audit_files(self._folder)):
            size_bytes, tail = _tail(path)
            last, torn = _last_line(tail)
            if last is None and size_bytes > len(torn):
                raise AuditBroken
            if last is not None:
                return _End(path, size_bytes - len(torn), last.head, torn)
            if torn:
                # The first line of a new file: the chain's end is in the one before.
                before = self._last_before(path) or Head(secrets.token_hex(16))
                return _End(path, 0, before, torn)
        first = Head(secrets.token_hex(16))
        return _End(self._path(first), 0, first)

    def _last_before(self, path: Path) -> Head | None:
        for earlier in reversed(audit_files(self._folder)):
            if earlier < path:
                last, _ = _last_line(_tail(earlier)[1])
                if last is None:
                    raise AuditBroken
                return last.head
        return None

    def _mended(self, end: _End) -> _End:
        """Closes a line that was begun. One that lacks its end alone is whole."""
        whole = parse_line(end.torn)
        if whole is not None and whole.previous == end.head.hash:
            size_bytes = end.size_bytes + len(end.torn)
            _append_bytes(end.path, size_bytes, b"\n")
            return _End(end.path, size_bytes + 1, whole.head)
        # Taken back first: what stands in its place holds it, and the file has whole lines only.
        os.truncate(end.path, end.size_bytes)
        mended = _End(end.path, end.size_bytes, end.head)
        line = self._written(mended, torn_content(end.torn, kept_bytes_max=_FRAGMENT_BYTES_MAX))
        _log.warning("a line of the audit was torn", extra={"sequence": line.sequence})
        return _End(end.path, end.size_bytes + len(line.data) + 1, line.head)

    def _written(self, end: _End, content: Mapping[str, Any]) -> AuditLine:
        line = next_line(end.head, content, self._clock.now_ms())
        if len(line.data) >= LINE_BYTES_MAX:
            raise AuditUnavailable
        path, size_bytes = end.path, end.size_bytes
        if size_bytes >= self._file_bytes_max:
            path, size_bytes = self._path(end.head), 0
        _append_bytes(path, size_bytes, line.data + b"\n")
        return line

    def _path(self, head: Head) -> Path:
        return self._folder / f"{head.sequence + 1:012}.jsonl"

    def _lines_after(self, sequence: int, limit: int) -> Sequence[AuditLine]:
        found: list[AuditLine] = []
        files = audit_files(self._folder)
        starts = [int(path.stem) for path in files]
        for path, next_start in zip(files, [*starts[1:], None], strict=True):
            if next_start is not None and next_start <= sequence + 1:
                continue
            for data in _whole_lines(path):
                line = parse_line(data)
                if line is None or len(found) == limit:
                    return found
                if line.sequence > sequence:
                    found.append(line)
        return found

    def _page(
        self, wanted: AuditFilter, before: AuditPoint | None, limit: int
    ) -> Sequence[AuditEvent]:
        found: list[AuditEvent] = []
        outcomes: dict[object, AuditLine] = {}
        for path in reversed(audit_files(self._folder)):
            for data in reversed(list(_whole_lines(path))):
                line = parse_line(data)
                if line is None:
                    continue
                if line.kind is LineKind.OUTCOME:
                    outcomes[line.content["action"]] = line
                elif line.kind is LineKind.ACTION and _is_wanted(line, wanted, before):
                    found.append(AuditEvent(line, outcomes.get(line.sequence)))
                    if len(found) == limit:
                        return found
        return found


def audit_files(folder: Path) -> Sequence[Path]:
    """The files of a machine's audit, the oldest first."""
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdecimal())


def _is_wanted(line: AuditLine, wanted: AuditFilter, before: AuditPoint | None) -> bool:
    content = line.content
    if before is not None:
        # Within a chain its numbers are the order, also where a clock was set back.
        same_chain = line.chain == before.chain
        here = AuditPoint("" if same_chain else line.time, line.chain, line.sequence)
        if here >= (before._replace(time="") if same_chain else before):
            return False
    return (
        wanted.since <= line.time
        and (not wanted.until or line.time < wanted.until)
        and all(
            not value or content[name] == value
            for name, value in (
                ("actor", wanted.actor),
                ("method", wanted.method),
                ("target", wanted.target),
            )
        )
    )


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def _tail(path: Path) -> tuple[int, bytes]:
    """The size of a file, and what its last line is in."""
    with path.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, size_bytes - _TAIL_BYTES))
        return size_bytes, file.read()


def _last_line(tail: bytes) -> tuple[AuditLine | None, bytes]:
    """The last whole line, if it is right, and what was begun behind it."""
    whole, newline, torn = tail.rpartition(b"\n")
    if not newline:
        return None, torn
    return parse_line(whole.rpartition(b"\n")[2]), torn


def _append_bytes(path: Path, size_bytes: int, data: bytes) -> None:
    """All of some bytes at a file's end, on the disk when this returns. What was written of them
    is taken back where that fails. Raises OSError.
    """
    is_new = not path.exists()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size_bytes)
        raise
    finally:
        os.close(file)
    if is_new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
