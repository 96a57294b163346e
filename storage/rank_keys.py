"""Fills in the rank keys that are missing: of entries from before there were any, of those that a
worker of the release before has moved, and of boards that are no longer index_only.
"""

from __future__ import annotations

from typing import Final

from storage.pool import Pool, query
from storage.statement import Statement

_TIMEOUT_S: Final = 30.0
_FILL: Final = Statement.of("""
with recursive unranked as (
  -- Season by season through the index of these entries, one look each. It holds all those of
  -- boards without an order, too.
  (select season_no from entries
   where shard = %(shard)s::smallint and state = 0 and rank_key is null
   order by season_no limit 1)
  union all
  select (select e.season_no from entries e
          where e.shard = %(shard)s and e.season_no > u.season_no and e.state = 0
            and e.rank_key is null
          order by e.season_no limit 1)
  from unranked u where u.season_no is not null
),
chunk as materialized (
  -- Whoever holds one now writes its key anyway.
  select e.user_id, e.season_no, (b.sort_order - 2)::bigint as score_flip,
         (b.subscore_sort_order - 2)::bigint as subscore_flip
  from unranked u
  join seasons s using (season_no)
  join boards b on b.board_no = s.board_no and not b.index_only
  cross join lateral (
    select season_no, user_id from entries
    where shard = %(shard)s and season_no = u.season_no and state = 0 and rank_key is null
    limit %(limit)s for no key update skip locked
  ) e
  limit %(limit)s
)
update entries e
set rank_key = rank_key_of(e.score, e.subscore, e.arrival, c.score_flip, c.subscore_flip)
from chunk c
where e.shard = %(shard)s and e.season_no = c.season_no and e.user_id = c.user_id
  and e.state = 0 and e.rank_key is null
returning 1
""")


async def fill_rank_keys(pool: Pool, shard: int, *, limit: int) -> int:
    """Fills in some keys of a shard and returns how many. Raises LedgerUnavailable."""
    rows = await query(pool, _FILL, {"shard": shard, "limit": limit}, timeout_s=_TIMEOUT_S)
    return len(rows)
