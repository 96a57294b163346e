"""core.verify_ports.IndexPieces over Redis Cluster."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from core.errors import IndexUnavailable, IndexUnbuilt
from core.ordering import PREFIX_BYTES
from core.verify_ports import IndexedValue, IndexPiece
from sharding.keys import meta_key, season_keys
from sharding.library import LIBRARY, Argument
from sharding.merge import behind
from sharding.replies import Reply, unavailable
from sharding.router import Router

_KEYS: Final = 1_000
_KEY: Final = struct.Struct(f"{PREFIX_BYTES}s8s")
_TAIL: Final = struct.Struct("12s")
"""Of a value: the revision, the state and the time."""


class RedisIndexPieces:
    """Every call is about one shard, declares its keys and is short."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def piece(self, season_number: int, shard: int, *, after: bytes) -> IndexPiece:
        """See `IndexPieces.piece`."""
        point = behind(after) if after else b""
        match await self._call("keys_behind", season_number, shard, (point, _KEYS)):
            case [bytes(keys), bytes(tails), bytes(strays)]:
                return IndexPiece(
                    [user + prefix + tail for (prefix, user), tail in _pairs(keys, tails)],
                    struct.unpack(f">{len(strays) // 8}Q", strays),
                )
        raise IndexUnavailable([shard])

    async def values(
        self, season_number: int, shard: int, user_ids: Sequence[int]
    ) -> Mapping[int, IndexedValue]:
        """See `IndexPieces.values`."""
        if not user_ids:
            return {}
        users = struct.pack(f">{len(user_ids)}Q", *user_ids)
        match await self._call("values", season_number, shard, (users,)):
            case [list(values), bytes(lacking)]:
                return {
                    user_id: IndexedValue(value, whole=word == ord("0"))
                    for user_id, value, word in zip(user_ids, values, lacking, strict=True)
                    if isinstance(value, bytes)
                }
        raise IndexUnavailable([shard])

    async def _call(
        self, function: str, season_number: int, shard: int, args: Sequence[Argument]
    ) -> Reply:
        keys = (meta_key(shard), *season_keys(shard, season_number))
        command = LIBRARY.read(function, keys, args)
        reply = (await self._router.call_shards({shard: command}, self._router.deadline()))[shard]
        if reply in (b"UNBUILT", b"BROKEN"):
            raise IndexUnbuilt([shard])
        if isinstance(reply, Exception):
            raise unavailable({shard: reply}) from reply
        return reply


def _pairs(keys: bytes, tails: bytes) -> Iterable[tuple[tuple[bytes, bytes], bytes]]:
    """Each key in its two parts, with its tail."""
    return zip(_KEY.iter_unpack(keys), (tail for (tail,) in _TAIL.iter_unpack(tails)), strict=True)
