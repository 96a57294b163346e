"""Takes one entry off a board."""

from __future__ import annotations

from dataclasses import dataclass

from core.board_directory import BoardDirectory
from core.errors import BoardNotFound, SeasonNotFound
from core.index_removals import IndexRemovals
from core.removal_ports import EntryDeletion, Removal, RemovedEntry
from core.types import Board, Outcome, Standing


@dataclass(frozen=True, slots=True)
class EntryDeleted:
    """What became of a deletion: APPLIED, or DUPLICATE where it was recorded before.

    `deleted` is the whole entry, for a duplicate its result and time; None where the user's
    submissions were erased since.
    """

    outcome: Outcome
    deleted: Standing | None
    indexed: bool
    consistency_token: str
    submission_id: str


@dataclass(frozen=True, slots=True)
class DeleteEntry:
    """Answers DeleteEntry."""

    boards: BoardDirectory
    removal: Removal
    showing: IndexRemovals

    async def __call__(
        self, board_id: str, user_id: int, *, season_id: str, submission_id: str, digest: bytes
    ) -> EntryDeleted:
        """Deletes the user's entry, a hidden one as well; what is submitted later starts anew.

        `season_id` "": the current one. Cost: three round trips to PostgreSQL and one to the
        index; where the board was made again in the last second, four more to PostgreSQL. Raises
        BoardNotFound, SeasonNotFound, EntryNotFound, SubmissionIdReused, SubmissionIdTooOld,
        SubmissionIdInFuture, InvalidInput, WriteConflict, LedgerUnavailable.
        """

        async def delete_from(board: Board) -> RemovedEntry:
            if season_id not in ("", board.season.season_id):
                raise SeasonNotFound
            return await self.removal.delete_entry(
                EntryDeletion(submission_id, board.season, user_id, digest)
            )

        board = await self.boards.get(board_id)
        try:
            done = await delete_from(board)
        except BoardNotFound:
            # Another worker deleted it, and may have made one of the same name since.
            done = await delete_from(await self.boards.reload(board_id))
        if done.outcome is Outcome.DUPLICATE:
            shown = await self.showing.find(user_id, done.season.number, done.xid)
        else:
            shown = await self.showing.apply({done.xid: done.changes})
        return EntryDeleted(
            outcome=done.outcome,
            deleted=done.deleted,
            indexed=shown.indexed,
            consistency_token=shown.consistency_token,
            submission_id=submission_id,
        )
