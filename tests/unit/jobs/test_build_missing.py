"""Which seasons a run of the job looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.ports import ShardStatus
from jobs.build_missing import BuildMissing

SEASONS = range(1, 2_501)


@dataclass
class _Index:
    """Whole shards, or shards that lost all."""

    mark: int | None = 1
    looked_at: list[Sequence[int]] = field(default_factory=list)

    async def shards(self, season_numbers: Sequence[int]) -> Sequence[ShardStatus]:
        return [ShardStatus(0, 0, "", True, self.mark, 0, 0, False)]

    async def unbuilt(self, season_numbers: Sequence[int]) -> Sequence[tuple[int, int]]:
        self.looked_at.append(season_numbers)
        return []


class _History:
    async def season_numbers(self, *, older_than_s: float = 0) -> Sequence[int]:
        return SEASONS


async def test_thousands_of_seasons_are_looked_at_in_turns() -> None:
    """Every one of them, over and over."""
    index = _Index()
    job = BuildMissing(_History(), index, None)  # type: ignore[arg-type]

    for _ in range(4):
        await job()

    assert index.looked_at == [SEASONS[:1000], SEASONS[1000:2000], SEASONS[2000:], SEASONS[:1000]]


async def test_all_seasons_of_a_shard_that_lost_all_are_looked_at_at_once() -> None:
    """A node that was replaced is not found out by turns."""
    index = _Index(mark=None)

    await BuildMissing(_History(), index, None)()  # type: ignore[arg-type]

    assert index.looked_at == [SEASONS]
