"""Boards: made, read, changed and ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.board_directory import BoardDirectory
from core.build_index import BuildIndex
from core.errors import InvalidInput, StandingsError
from core.ports import Boards, IndexKeeping
from core.tokens import TokenSigner
from core.types import Board, BoardSpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ManageBoards:
    """Answers BoardService."""

    boards: Boards
    directory: BoardDirectory
    keeping: IndexKeeping
    build: BuildIndex
    signer: TokenSigner

    async def create(self, spec: BoardSpec) -> Board:
        """Stores a board and gives its season an empty index. Raises BoardExists.

        The board is made once PostgreSQL has it: where the index cannot take the season now, the
        healer builds it later, and until then reads of the board are unavailable.
        """
        board = await self.boards.create(spec)
        self.directory.put(board)
        try:
            await self.build.season(board.season.number)
        except StandingsError:
            _log.warning("a new season is not in the index yet", extra=_names(board))
        return board

    async def get(self, board_id: str) -> Board:
        """The board of that name, as PostgreSQL has it now. Raises BoardNotFound."""
        return await self.directory.reload(board_id)

    async def list(
        self, *, page_size: int, page_token: str, prefix: str = ""
    ) -> tuple[Sequence[Board], str]:
        """A page of the boards whose names begin so, by name, and the token of the next one, which
        is good for the same prefix. Raises PageTokenInvalid.
        """
        after = self.signer.boards_after(page_token, prefix) if page_token else ""
        found = await self.boards.list(after=after, limit=page_size + 1, prefix=prefix)
        shown = found[:page_size]
        if len(found) == len(shown):
            return shown, ""
        return shown, self.signer.boards_page(shown[-1].spec.board_id, prefix)

    async def update(self, board_id: str, changes: Mapping[str, object], *, etag: str) -> Board:
        """Changes the named fields of the definition.

        Raises BoardNotFound, EtagMismatch, and InvalidInput where the bounds would contradict
        each other.
        """
        current = await self.directory.reload(board_id)
        _check_bounds(replace(current.spec, **changes))  # type: ignore[arg-type]
        board = await self.boards.update(board_id, changes, etag=etag)
        self.directory.put(board)
        return board

    async def delete(self, board_id: str, *, etag: str) -> None:
        """Ends a board. Its index goes at once, its entries by a job.

        Raises BoardNotFound, EtagMismatch.
        """
        board = await self.boards.delete(board_id, etag=etag)
        self.directory.forget(board_id)
        try:
            await self.keeping.drop(board.season.number)
        except StandingsError:
            _log.warning("a deleted season is still in the index", extra=_names(board))


def _check_bounds(spec: BoardSpec) -> None:
    low, high = spec.min_score, spec.max_score
    if low is not None and high is not None and low > high:
        raise InvalidInput("board.min_score", "must not be greater than max_score")


def _names(board: Board) -> dict[str, object]:
    return {"board_id": board.spec.board_id, "season_number": board.season.number}
