"""What taking entries and users off the boards needs from the ledger. The adapters: storage/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.types import Board, Erasure, IndexChange, Outcome, Season, Standing


@dataclass(frozen=True, slots=True)
class EntryDeletion:
    """One entry that is to be deleted; id and digest as those of a submission."""

    submission_id: str
    season: Season
    user_id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class RemovedEntry:
    """What became of a deletion: APPLIED, or DUPLICATE with what was stored the first time.

    `deleted` is None where the user's submissions were erased since. `changes` is empty for a
    duplicate.
    """

    outcome: Outcome
    deleted: Standing | None
    season: Season
    xid: int
    changes: Sequence[IndexChange]


@dataclass(frozen=True, slots=True)
class EntrySweep:
    """What was done to one user's entries: how many, and what the index has to show for it, by
    transaction.

    `earlier` names the user's other entries in the index as (season_number, xid) of their last
    change, xid 0 where the index must have it by now. `entry_count` leaves out what was no standing
    entry.
    """

    entry_count: int
    changes: Mapping[int, Sequence[IndexChange]]
    earlier: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class Hiding:
    """What became of a hiding or its end. `still_hidden`: another one covers the board or, of
    all boards, any.
    """

    changed: bool
    still_hidden: bool
    sweep: EntrySweep


@dataclass(frozen=True, slots=True)
class UserDeletion:
    """How far a deletion is, in entries and submissions; times in ms. `erasure` is the one in
    force, which may be stricter than what was asked for last.
    """

    erasure: Erasure
    entry_count: int
    event_count: int
    create_time_ms: int
    complete_time_ms: int | None
    sweep: EntrySweep


class Removal(Protocol):
    """Taking entries and users off the boards. `board` None: everywhere.

    Each raises LedgerUnavailable, WriteConflict. A decision about a user is committed first, then
    the user's entries are gone through part by part. Where a part fails, the decision stands, and
    a job does what is left; calling again does it, too.
    """

    async def delete_entry(self, deletion: EntryDeletion) -> RemovedEntry:
        """Deletes an entry, once for each id.

        Raises EntryNotFound, BoardNotFound, SubmissionIdReused, SubmissionIdTooOld and
        SubmissionIdInFuture, and then nothing is stored.
        """

    async def hide(self, user_id: int, board: Board | None) -> Hiding:
        """Hides a user's entries, those to come as well."""

    async def restore(self, user_id: int, board: Board | None) -> Hiding:
        """Takes a hiding back."""

    async def delete_user(self, user_id: int, erasure: Erasure) -> UserDeletion:
        """Begins a deletion, or tells of the last one where one is under way or where nothing of
        the user has come since. One that is under way is made stricter, if that is asked for.
        """


class UnfinishedRemovals(Protocol):
    """What removals leave to do. Each raises LedgerUnavailable, WriteConflict."""

    async def due_sweeps(self) -> Sequence[int]:
        """The users whose entries may be looked at for the last time: whatever began before
        their marks has ended. Who has waited longest comes first.
        """

    async def sweep(self, user_id: int) -> bool:
        """Looks at the next part of a user's entries; True when that was the last one."""

    async def erase(self) -> bool:
        """Erases some of the submissions of users that are being deleted; True when there is
        nothing to do now.
        """
