"""Does what hiding and deleting users leaves to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core.errors import WriteConflict
from core.ports import UnfinishedRemovals

_STRETCHES_MAX: Final = 50
"""Half a million submissions a run; then those who wait for a sweep have their turn again."""


@dataclass(frozen=True, slots=True)
class FinishRemovals:
    """Looks at the entries of hidden and deleted users again, then erases submissions.

    What it changes comes to the index as everything does that a worker could not apply.
    """

    removals: UnfinishedRemovals

    async def __call__(self) -> None:
        """Raises LedgerUnavailable, WriteConflict; the next run goes on where this one ended."""
        conflict: WriteConflict | None = None
        for user_id in await self.removals.due_sweeps():
            try:
                while not await self.removals.sweep(user_id):
                    pass
            except WriteConflict as error:
                # One user who is locked now must not hold up the others.
                conflict = error
        for _ in range(_STRETCHES_MAX):
            if await self.removals.erase():
                break
        if conflict is not None:
            raise conflict
