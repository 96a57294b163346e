"""Users off the boards: hidden, shown again, deleted."""

from __future__ import annotations

from dataclasses import dataclass

from core.board_directory import BoardDirectory
from core.index_removals import IndexRemovals
from core.removal_ports import Removal
from core.types import Board, Erasure


@dataclass(frozen=True, slots=True)
class UserHidden:
    """What became of a hiding. `changed` False: the user was hidden there already."""

    changed: bool
    entry_count: int
    indexed: bool
    consistency_token: str


@dataclass(frozen=True, slots=True)
class UserRestored:
    """What became of a restoration. `still_hidden`: by a hiding that remains."""

    changed: bool
    entry_count: int
    still_hidden: bool
    indexed: bool
    consistency_token: str


@dataclass(frozen=True, slots=True)
class UserDeleted:
    """How far a deletion is; times in ms, `complete_time_ms` None while submissions are left.
    `erasure` is the one in force.
    """

    erasure: Erasure
    deleted_entry_count: int
    erased_submission_count: int
    create_time_ms: int
    complete_time_ms: int | None
    indexed: bool
    consistency_token: str


@dataclass(frozen=True, slots=True)
class ModerateUsers:
    """Answers ModerationService. A `board_id` of "" means every board, those to come as well.

    `indexed` and the token speak of all that was done to the user's entries so far, by this call
    and by earlier ones; the token is good for reads of every board. Each raises LedgerUnavailable
    and WriteConflict, and may then be called again. Cost: nine round trips to PostgreSQL, five for
    every 1,000 seasons, and one to the index for each transaction that changed entries.
    """

    boards: BoardDirectory
    removal: Removal
    showing: IndexRemovals

    async def hide(self, user_id: int, board_id: str) -> UserHidden:
        """Hides a user's entries from everybody else. Raises BoardNotFound."""
        done = await self.removal.hide(user_id, await self._board(board_id))
        shown = await self.showing.show(user_id, done.sweep)
        return UserHidden(
            changed=done.changed,
            entry_count=done.sweep.entry_count,
            indexed=shown.indexed,
            consistency_token=shown.consistency_token,
        )

    async def restore(self, user_id: int, board_id: str) -> UserRestored:
        """Takes one hiding back. Raises BoardNotFound."""
        done = await self.removal.restore(user_id, await self._board(board_id))
        shown = await self.showing.show(user_id, done.sweep)
        return UserRestored(
            changed=done.changed,
            entry_count=done.sweep.entry_count,
            still_hidden=done.still_hidden,
            indexed=shown.indexed,
            consistency_token=shown.consistency_token,
        )

    async def delete(self, user_id: int, erasure: Erasure) -> UserDeleted:
        """Deletes a user from everywhere, or tells how far that is; a job erases submissions."""
        done = await self.removal.delete_user(user_id, erasure)
        shown = await self.showing.show(user_id, done.sweep)
        return UserDeleted(
            erasure=done.erasure,
            deleted_entry_count=done.entry_count,
            erased_submission_count=done.event_count,
            create_time_ms=done.create_time_ms,
            complete_time_ms=done.complete_time_ms,
            indexed=shown.indexed,
            consistency_token=shown.consistency_token,
        )

    async def _board(self, board_id: str) -> Board | None:
        # As PostgreSQL has it now: a mark stays, so it must not go to a board that is gone.
        return await self.boards.reload(board_id) if board_id else None
