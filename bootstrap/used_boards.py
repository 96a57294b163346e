"""Which boards are in use on this machine, and how they are defined: a file for each season.

Its time says when the season was last used, its content is the board. So the worker that makes
snapshots knows what to make, and one that starts while PostgreSQL is away knows the boards.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bootstrap.state_files import file_stamp, replace_file
from core.ports import Clock
from core.types import Board, BoardSpec, Operator, Season, SortOrder

_FOLDER: Final = "boards"
_WRITE_S: Final = 1.0
_AGAIN_S: Final = 15.0
"""How soon the use of a board is noted again; a season counts as used for a minute."""
KEPT_S: Final = 86_400.0

_log = logging.getLogger(__name__)


class UsedBoards:
    """The `RememberedBoards` port on a directory; `run` writes down what was noted."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._clock = clock
        self._folder = directory / _FOLDER
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._known = _boards_in(self._folder)
        self._used: dict[int, Board] = {}
        self._written: dict[int, tuple[float, Board]] = {}

    @property
    def count(self) -> int:
        """Boards that were noted when this process began."""
        return len(self._known)

    def use(self, board: Board) -> None:
        """See `RememberedBoards.use`."""
        self._used[board.season.number] = board

    def recall(self, board_id: str) -> Board | None:
        """See `RememberedBoards.recall`."""
        return self._known.get(board_id)

    def drop(self, board_id: str) -> None:
        """See `RememberedBoards.drop`."""
        self._known.pop(board_id, None)

    async def run(self) -> None:
        """Writes each second until it is cancelled."""
        while True:
            await self.write()
            await asyncio.sleep(_WRITE_S)

    async def write(self) -> None:
        """Writes down what was noted since the last time; where that fails it is logged."""
        used, self._used = self._used, {}
        try:
            await asyncio.to_thread(self._write, used)
        except OSError as error:
            _log.warning("the use of boards cannot be noted", extra={"reason": error.strerror})

    def _write(self, used: dict[int, Board]) -> None:
        now_s = self._clock.monotonic_s()
        for number, board in used.items():
            written = self._written.get(number)
            path = self._folder / f"{number}.json"
            if written is None or written[1] != board or file_stamp(path) is None:
                replace_file(path, _encode(board), sync=True)
            elif now_s - written[0] < _AGAIN_S:
                continue
            else:
                os.utime(path)
            self._written[number] = now_s, board


def seasons_used_since(directory: Path, since_s: float) -> list[int]:
    """The seasons that any worker of the machine has used since a time of the wall clock."""
    return [
        int(path.stem)
        for path in (directory / _FOLDER).glob("*.json")
        if (stamp := file_stamp(path)) is not None and stamp[0] / 1e9 >= since_s
    ]


def forget_boards_before(directory: Path, time_s: float) -> None:
    """Forgets those that nobody has used since."""
    for path in (directory / _FOLDER).glob("*.json"):
        if (stamp := file_stamp(path)) is not None and stamp[0] / 1e9 < time_s:
            path.unlink(missing_ok=True)


def _boards_in(folder: Path) -> dict[str, Board]:
    boards: dict[str, Board] = {}
    for path in folder.glob("*.json"):
        try:
            board = _decode(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            _log.warning("a board cannot be read", extra={"file": path.name})
            continue
        known = boards.get(board.spec.board_id)
        # A deleted board may have left its name to another one.
        if known is None or _age(known) < _age(board):
            boards[board.spec.board_id] = board
    return boards


def _age(board: Board) -> tuple[int, int, int]:
    return board.number, board.version, board.season.number


def _encode(board: Board) -> bytes:
    return json.dumps(asdict(board)).encode()


def _decode(fields: dict[str, Any]) -> Board:
    spec = fields["spec"]
    orders = {name: SortOrder(spec[name]) for name in ("sort_order", "subscore_sort_order")}
    return Board(
        **{
            **fields,
            "spec": BoardSpec(**{**spec, **orders, "operator": Operator(spec["operator"])}),
            "season": Season(**fields["season"]),
        }
    )
