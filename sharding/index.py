"""core.ports.Index over Redis Cluster."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from core.ordering import KEY_BYTES, PREFIX_BYTES, VALUE_BYTES
from core.ports import Freshness, IndexedEntry, IndexView, PageSlice
from core.types import IndexChange, shard_of
from sharding.apply import apply_batches, by_shard
from sharding.keys import SHARDS, done_key, meta_key, season_keys
from sharding.library import Argument
from sharding.merge import merge
from sharding.reading import Question, Replies, ShardQuestion, ask, require_answers
from sharding.replies import Reply
from sharding.router import Router

_CUTOFFS_MAX: Final = 128
"""Counts a call may ask of each shard: 16,000 of them hold up a node for about 10 ms."""
_GONE: Final = bytes(VALUE_BYTES)
_TAIL_BYTES: Final = 6


class RedisIndex:
    """The sorted entries of every season over 16 shards."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def apply(self, xid: int, changes: Sequence[IndexChange]) -> frozenset[tuple[int, int]]:
        """As core.ports.Index.apply."""
        batches = by_shard(changes)
        results = await apply_batches(self._router, b"%d" % xid, batches)
        return frozenset(
            (season, shard)
            for shard, unheld in results.items()
            for season in (batches[shard].seasons if unheld is None else unheld)
        )

    async def users(
        self, season_number: int, user_ids: Sequence[int], *, cutoff_bytes: int, fresh: Freshness
    ) -> tuple[Mapping[int, IndexedEntry], IndexView]:
        """As core.ports.Index.users."""
        asked: dict[int, list[int]] = {}
        for user_id in user_ids:
            asked.setdefault(shard_of(user_id), []).append(user_id)
        question = Question(
            "users",
            [(cutoff_bytes,)],
            {
                shard: _question(season_number, shard, fresh, struct.pack(f">{len(ids)}Q", *ids))
                for shard, ids in asked.items()
            },
        )
        replies = await ask(self._router, question)
        require_answers(replies)
        entries: dict[int, IndexedEntry] = {}
        for shard, rounds in replies.items():
            entries.update(_entries(asked[shard], rounds[0]))
        return entries, _view(replies)

    async def count_before(
        self,
        season_number: int,
        cutoffs: Sequence[bytes],
        *,
        shards: Sequence[int],
        fresh: Freshness,
    ) -> tuple[Sequence[Sequence[int]], IndexView]:
        """As core.ports.Index.count_before."""
        question = Question(
            "ranks",
            list(_cutoff_rounds(cutoffs)),
            {shard: _question(season_number, shard, fresh) for shard in shards},
        )
        replies = await ask(self._router, question)
        require_answers(replies)
        counts = [[n for reply in replies[shard] for n in _counts(reply)] for shard in shards]
        return counts, _view(replies)

    async def page(
        self, season_number: int, *, after: bytes, offset: int, limit: int, fresh: Freshness
    ) -> PageSlice:
        """As core.ports.Index.page."""
        question = Question(
            "page",
            [(after, offset + limit)],
            {shard: _question(season_number, shard, fresh) for shard in SHARDS},
        )
        replies = await ask(self._router, question)
        require_answers(replies)
        before, keys, tails = 0, [], []
        for rounds in replies.values():
            match rounds[0]:
                case [int(), int(), int(count), bytes(shard_keys), bytes(shard_tails)]:
                    before += count
                    keys.append(shard_keys)
                    tails.append(shard_tails)
        entries = [
            (key, tails[source][place * _TAIL_BYTES : (place + 1) * _TAIL_BYTES])
            for key, source, place in merge(keys, skip=offset, limit=limit)
        ]
        sent = sum(map(len, keys)) // KEY_BYTES
        return PageSlice(before + min(offset, sent), entries, _view(replies))


def _question(season_number: int, shard: int, fresh: Freshness, *extra: Argument) -> ShardQuestion:
    keys = (meta_key(shard), done_key(shard), *season_keys(shard, season_number))
    xids = b",".join(b"%d" % xid for xid in fresh.xids.get(shard, ()))
    return ShardQuestion(keys, (*keys, xids, *extra))


def _cutoff_rounds(cutoffs: Sequence[bytes]) -> Iterable[tuple[Argument, ...]]:
    """Runs of equally long cutoffs, as few as keep their order; one empty round if there is none.

    No key is smaller than nothing, nor than a zero byte, which has a length to cut a blob by.
    """
    rest = iter([cutoff or b"\0" for cutoff in cutoffs])
    run = list(islice(rest, 1))
    if not run:
        yield (KEY_BYTES, b"")
    for cutoff in rest:
        if len(cutoff) != len(run[0]) or len(run) == _CUTOFFS_MAX:
            yield (len(run[0]), b"".join(run))
            run = []
        run.append(cutoff)
    if run:
        yield (len(run[0]), b"".join(run))


def _counts(reply: Reply) -> tuple[int, ...]:
    match reply:
        case [int(), int(), bytes(blob)]:
            return struct.unpack(f">{len(blob) // 8}Q", blob)
    raise TypeError("not what the function ranks replies")


def _entries(user_ids: Sequence[int], reply: Reply) -> Iterable[tuple[int, IndexedEntry]]:
    match reply:
        case [int(), int(), bytes(values), bytes(counts)]:
            before = struct.unpack(f">{len(user_ids)}Q", counts)
            for place, user_id in enumerate(user_ids):
                value = values[place * VALUE_BYTES : (place + 1) * VALUE_BYTES]
                if value != _GONE:
                    key = value[:PREFIX_BYTES] + user_id.to_bytes(8, "big")
                    yield user_id, IndexedEntry(key, value[-_TAIL_BYTES:], before[place])


def _view(replies: Replies) -> IndexView:
    """The youngest build among the shards, and all their entries."""
    epoch, entry_count = 0, 0
    for rounds in replies.values():
        match rounds[0]:
            case [int(shard_epoch), int(live), *_]:
                epoch = max(epoch, shard_epoch)
                entry_count += live
    return IndexView(epoch, entry_count)
