"""Where a shard lives and what its keys are called.

A shard is one hash tag, so that all its keys share a slot and one function may use them together.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache
from typing import Final

from core.types import SHARD_COUNT

_TAGS = "s07 s1159 s2165 s3179 s4122 s5129 s6106 s7279 s8161 s9209 sa42 sb18 sc63 sd78 se11 sf58"

TAGS: Final = tuple(tag.encode() for tag in _TAGS.split())
"""One hash tag a shard, in slot order and one per 1,024 slots: any even split of the slots over 2,
3, 4, 8 or 16 nodes gives each node its fair number of shards.
"""
SLOTS: Final = tuple(crc_hqx(tag, 0) % 16384 for tag in TAGS)
"""By Redis's CRC16, which Python has for other uses."""
SHARDS: Final = range(SHARD_COUNT)

FORMAT: Final = 2
"""Of the values and members below these keys. Another format is another index, beside this one:
workers of two releases never read or write what the other's functions made.
"""
_SEASONS_MAX: Final = 4096

_STEMS: Final = tuple(b"{%s}:%d" % (tag, FORMAT) for tag in TAGS)
_META: Final = tuple(stem + b":m" for stem in _STEMS)
_DONE: Final = tuple(stem + b":d" for stem in _STEMS)


def meta_key(shard: int) -> bytes:
    """The hash with the shard's mark and its builds."""
    return _META[shard]


def done_key(shard: int) -> bytes:
    """The sorted set of the transactions taken since the mark."""
    return _DONE[shard]


def season_keys(shard: int, season_number: int) -> tuple[bytes, bytes]:
    """The hash and the sorted set of a (season, shard) that are read."""
    stem = _STEMS[shard]
    return b"%s:h:%d" % (stem, season_number), b"%s:z:%d" % (stem, season_number)


@lru_cache(_SEASONS_MAX)
def read_keys(season_number: int) -> tuple[tuple[bytes, ...], ...]:
    """For each shard all keys that a read of a season names: meta_key, done_key, season_keys."""
    return tuple(
        (meta_key(shard), done_key(shard), *season_keys(shard, season_number)) for shard in SHARDS
    )


def copy_keys(shard: int, season_number: int) -> tuple[bytes, bytes]:
    """The hash and the sorted set of the copy of a (season, shard) that is being built."""
    stem = _STEMS[shard]
    return b"%s:H:%d" % (stem, season_number), b"%s:Z:%d" % (stem, season_number)
