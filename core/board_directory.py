"""The boards a worker knows, so that a hot path does not ask PostgreSQL for each call."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final

from cachetools import LRUCache

from core.errors import BoardNotFound, LedgerUnavailable, QueueFull, WriteConflict
from core.ports import Boards, Clock
from core.snapshot_ports import RememberedBoards
from core.types import Board

_BOARDS_MAX: Final = 10_000
"""About 10 MB of definitions; more boards than that are looked up again."""
_FRESH_S: Final = 1.0
"""How long another worker's change to a board may go unseen by reads. Writes carry the version,
and the ledger refuses one that is not the current."""

_PATIENCE_S: Final = 0.05
"""How long a slow PostgreSQL is waited for where a definition is known that is a little older."""


class NothingRemembered:
    """Outlives no process."""

    def use(self, board: Board) -> None:
        """Nothing."""

    def recall(self, _board_id: str) -> Board | None:
        """No board."""
        return None

    def drop(self, board_id: str) -> None:
        """Nothing."""


NOTHING_REMEMBERED: Final = NothingRemembered()


class BoardDirectory:
    """Definitions by name, at most a second old; concurrent lookups of one name share one read."""

    def __init__(
        self, boards: Boards, clock: Clock, remembered: RememberedBoards = NOTHING_REMEMBERED
    ) -> None:
        self._boards = boards
        self._clock = clock
        self._remembered = remembered
        self._known: LRUCache[str, tuple[float, Board]] = LRUCache(_BOARDS_MAX)
        self._loading: dict[str, asyncio.Task[Board]] = {}

    async def get(self, board_id: str) -> Board:
        """The board of that name; while PostgreSQL cannot answer, as it was last known. Raises
        BoardNotFound, LedgerUnavailable.
        """
        known = self._known.get(board_id)
        if known is not None and self._clock.monotonic_s() - known[0] < _FRESH_S:
            board = known[1]
        else:
            board = await self._newest(board_id, known[1] if known else None)
        self._remembered.use(board)
        return board

    async def reload(self, board_id: str) -> Board:
        """The board as PostgreSQL has it now. Raises BoardNotFound, LedgerUnavailable."""
        # One caller's cancellation must not fail the others who wait for the same read.
        return await asyncio.shield(self._lookup(board_id))

    def put(self, board: Board) -> None:
        """Notes a definition that this worker has just changed, whatever is being read now."""
        self._loading.pop(board.spec.board_id, None)
        self._note(board)

    def forget(self, board_id: str) -> None:
        """Drops a definition that no longer holds."""
        self._loading.pop(board_id, None)
        self._known.pop(board_id, None)

    def _lookup(self, board_id: str) -> asyncio.Task[Board]:
        """The read of a board that is under way, or begins now."""
        task = self._loading.get(board_id)
        if task is None:
            # In a context of its own: it must not end with the deadline of the first who asks.
            task = asyncio.create_task(self._load(board_id), context=Context())
            self._loading[board_id] = task
            task.add_done_callback(lambda done: self._loaded(board_id, done))
        return task

    async def _newest(self, board_id: str, known: Board | None) -> Board:
        lookup = self._lookup(board_id)
        if known is not None:
            await asyncio.wait({lookup}, timeout=_PATIENCE_S)
            if not lookup.done():
                # It goes on; whoever has a deadline needs the time for other things.
                return known
        try:
            return await asyncio.shield(lookup)
        except (LedgerUnavailable, QueueFull, WriteConflict):
            # Reads need no more than its order and season. Writes are refused with an old one,
            # where they can be taken at all.
            board = known or self._remembered.recall(board_id)
            if board is None:
                raise
            self._note(board)
            return board

    async def _load(self, board_id: str) -> Board:
        try:
            board = await self._boards.get(board_id)
        except BoardNotFound:
            self._remembered.drop(board_id)
            if self._loading.get(board_id) is asyncio.current_task():
                self._known.pop(board_id, None)
            raise
        self._remembered.drop(board_id)
        if self._loading.get(board_id) is asyncio.current_task():
            # Otherwise the board was changed or deleted here in the meantime.
            self._note(board)
        return board

    def _note(self, board: Board) -> None:
        known = self._known.get(board.spec.board_id)
        # A read that began before a change may end after it.
        if known is None or (known[1].number, known[1].version) <= (board.number, board.version):
            self._known[board.spec.board_id] = (self._clock.monotonic_s(), board)

    def _loaded(self, board_id: str, task: asyncio.Task[Board]) -> None:
        if self._loading.get(board_id) is task:
            del self._loading[board_id]
        if not task.cancelled():
            # Every caller may be gone by now; looking keeps asyncio from logging the failure.
            task.exception()
