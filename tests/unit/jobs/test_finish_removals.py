"""How a run of the job shares its time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.errors import WriteConflict
from jobs.finish_removals import FinishRemovals


class _Removals:
    """Users whose entries have no end, one of them locked, and submissions that have none."""

    def __init__(self, *, locked: int = 0) -> None:
        self._locked = locked
        self.swept: list[int] = []
        self.stretches = 0

    async def due_sweeps(self) -> Sequence[int]:
        return [1, 2]

    async def sweep(self, user_id: int) -> bool:
        self.swept.append(user_id)
        if user_id == self._locked:
            raise WriteConflict
        return False

    async def erase(self) -> bool:
        self.stretches += 1
        return False


async def test_sweeps_without_end_leave_time_for_erasures() -> None:
    """And erasures for the sweeps of the next run."""
    removals = _Removals()

    await FinishRemovals(removals)()

    assert removals.swept == [1] * 500
    assert removals.stretches == 50


async def test_a_locked_user_holds_up_neither_the_next_nor_erasures() -> None:
    """The run says at its end that it has to come again."""
    removals = _Removals(locked=1)

    with pytest.raises(WriteConflict):
        await FinishRemovals(removals)()

    assert removals.swept == [1] + [2] * 499
    assert removals.stretches == 50
