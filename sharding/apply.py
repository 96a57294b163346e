"""One apply to one shard: its items by season, and the commands that carry them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from core.types import IndexChange
from sharding.keys import copy_keys, done_key, meta_key, season_keys
from sharding.library import LIBRARY, Argument, Command
from sharding.replies import Reply
from sharding.router import Router

_ROUNDS_MAX = 3
"""Tries while seasons of the batch begin to be built, which each time costs one more."""


class Verdict(Enum):
    """What became of a season's items."""

    OK = b"OK"
    UNBUILT = b"UNBUILT"
    BROKEN = b"BROKEN"
    BUILDING = b"BUILDING"


@dataclass(slots=True)
class ShardBatch:
    """The items of one shard: per season and user the one with the highest revision.

    A function call reads what is stored before it writes, so a user may stand in it only once.
    """

    seasons: dict[int, dict[bytes, bytes]] = field(default_factory=dict)

    def add(self, season_number: int, item: bytes) -> None:
        """Adds an item, unless a newer one of its user is there."""
        items = self.seasons.setdefault(season_number, {})
        user = item[:8]
        other = items.get(user)
        if other is None or other[32:38] < item[32:38]:
            items[user] = item

    def command(self, shard: int, xids: bytes, building: Collection[int]) -> Command:
        """The call that applies all of it; `building` are the seasons whose copies it declares.

        The others' copies are not declared, because a declared key that does not exist makes a
        moving slot refuse the call.
        """
        keys = [meta_key(shard), done_key(shard)]
        args: list[Argument] = [xids]
        for season_number, items in self.seasons.items():
            keys += season_keys(shard, season_number)
            declared = season_number in building
            if declared:
                keys += copy_keys(shard, season_number)
            args += (season_number, int(declared), b"".join(items.values()))
        return LIBRARY.write("apply", keys, args)


def by_shard(changes: Iterable[IndexChange]) -> dict[int, ShardBatch]:
    """Changes grouped by shard."""
    batches: dict[int, ShardBatch] = {}
    for change in changes:
        batch = batches.get(change.shard)
        if batch is None:
            batch = batches[change.shard] = ShardBatch()
        batch.add(change.season_number, change.item)
    return batches


async def apply_batches(
    router: Router, xids: bytes, batches: Mapping[int, ShardBatch]
) -> dict[int, frozenset[int] | None]:
    """Applies each shard's batch. Returns per shard the seasons that it does not hold, or None
    where the shard took nothing at all.

    Cost: one round trip; one more for shards where a season of the batch is being built.
    """
    deadline = router.deadline()
    building: dict[int, frozenset[int]] = dict.fromkeys(batches, frozenset())
    results: dict[int, frozenset[int] | None] = {}
    for _ in range(_ROUNDS_MAX):
        commands = {
            shard: batches[shard].command(shard, xids, seasons)
            for shard, seasons in building.items()
        }
        replies = await router.call_shards(commands, deadline)
        known, building = building, {}
        for shard, reply in replies.items():
            verdicts = _verdicts(reply, batches[shard])
            if verdicts is None:
                results[shard] = None
            elif copies := {s for s, verdict in verdicts.items() if verdict is Verdict.BUILDING}:
                building[shard] = known[shard] | copies
                results[shard] = None
            else:
                results[shard] = frozenset(s for s in verdicts if verdicts[s] is not Verdict.OK)
        if not building:
            break
    return results


def _verdicts(reply: Reply, batch: ShardBatch) -> dict[int, Verdict] | None:
    """What became of each season; None where nothing was written and asking again is no use."""
    if reply == b"DONE":
        return {}
    if not isinstance(reply, list) or len(reply) != len(batch.seasons):
        return None
    return {season: Verdict(word) for season, word in zip(batch.seasons, reply, strict=True)}
