"""What the index is held against: counts and digests of entries, made by PostgreSQL."""

from __future__ import annotations

from typing import Final

from core.verify_ports import LedgerPiece
from storage.history import NEXT_ITEMS
from storage.pool import Pool, query
from storage.statement import Statement

_TIMEOUT_S: Final = 10.0
_ROWS: Final = 20_000
"""A tenth of a second of PostgreSQL's time."""
_DIGEST_MASK: Final = 2**64 - 1

_PIECE: Final = Statement.of(f"""
select count(*) filter (where state = 0),
       coalesce(sum(('x' || encode(substr(sha256(item), 1, 8), 'hex'))::bit(64)::bigint)
                filter (where state = 0), 0)::text,
       coalesce(string_agg(item, ''::bytea) filter (where state <> 0), ''::bytea),
       max(user_id), count(*)
from (
{NEXT_ITEMS}) piece
""")  # noqa: S608  # only constants
"""The first eight bytes as a signed number: modulo 2^64 the sums are the same."""


class PostgresPieces:
    """The `LedgerPieces` port; `pool` leads to the primary."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def piece(self, season_number: int, shard: int, *, after_user_id: int) -> LedgerPiece:
        """See `LedgerPieces.piece`."""
        rows = await query(
            self._pool,
            _PIECE,
            {"season_no": season_number, "shard": shard, "after": after_user_id, "limit": _ROWS},
            timeout_s=_TIMEOUT_S,
        )
        live_count, digest, others, last_user_id, count = rows[0]
        return LedgerPiece(
            live_count=live_count,
            digest=int(digest) & _DIGEST_MASK,
            others=others,
            last_user_id=last_user_id if count == _ROWS else None,
        )
