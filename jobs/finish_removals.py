"""Does what hiding and deleting users leaves to do."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from core.errors import WriteConflict
from core.removal_ports import UnfinishedRemovals

_PARTS_MAX: Final = 500
"""Half a million seasons a run, some seconds; then those who wait for an erasure have their turn.
"""
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
        conflict = await self._sweep()
        for _ in range(_STRETCHES_MAX):
            if await self.removals.erase():
                break
        if conflict is not None:
            raise conflict

    async def _sweep(self) -> WriteConflict | None:
        """Up to 500 parts of what is due, and the last conflict on the way."""
        conflict: WriteConflict | None = None
        waiting = deque(await self.removals.due_sweeps())
        for _ in range(_PARTS_MAX):
            if not waiting:
                break
            try:
                if await self.removals.sweep(waiting[0]):
                    waiting.popleft()
            except WriteConflict as error:
                # One user who is locked now must not hold up the others.
                conflict = error
                waiting.popleft()
        return conflict
