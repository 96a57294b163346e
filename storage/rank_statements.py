"""What is read by rank keys: each statement tells of one instant, in rows (kind, shard, bytes).

Rows of entries come in rank order by an index of each partition, so that a read of n of them costs
n and one for each shard. Of a shard that has entries without a key nothing else is true.
"""

from __future__ import annotations

from typing import Final

from storage.history import FOLLOWED_LEDGER, LEDGER
from storage.statement import Statement

_LISTED: Final = """
e.season_no = %(season_no)s::integer and e.state = 0 and e.rank_key is not null
"""
_KEY: Final = "e.rank_key || int8send(e.user_id)"
_ROW: Final = f"""
{_KEY} || substring(int8send((extract(epoch from e.achieve_time) * 1000)::bigint) from 3)
"""
_UNRANKED: Final = """
select 'unranked', s.shard, null::bytea
from unnest(%(shard)s::smallint[]) as s(shard)
where exists (
  select from entries e
  where e.shard = s.shard and e.season_no = %(season_no)s and e.state = 0 and e.rank_key is null
)
"""
_FOUND: Final = """
found as materialized (
  -- Hidden ones, too, with the key that they would have.
  select e.shard, e.user_id,
         rank_key_of(e.score, e.subscore, e.arrival, f.score_flip, f.subscore_flip) as rank_key,
         index_item(e.user_id, e.score, e.subscore, e.arrival, e.revision, e.state,
                    e.achieve_time, f.score_flip, f.subscore_flip) as item
  from (
    select (b.sort_order - 2)::bigint as score_flip,
           (b.subscore_sort_order - 2)::bigint as subscore_flip
    from seasons s join boards b using (board_no) where s.season_no = %(season_no)s
  ) f
  cross join unnest(%(user_id)s::bigint[]) as u(user_id)
  -- By key, whatever the planner is told about joins.
  cross join lateral (
    select e.* from entries e
    where e.shard = (u.user_id % 16)::smallint and e.season_no = %(season_no)s
      and e.user_id = u.user_id
    offset 0
  ) e
  where e.state in (0, 2)
)
"""
_ITEMS: Final = "select 'item', f.shard, f.item from found f"


_STOPS: Final = "unnest(%(shard)s, %(stop_key)s::bytea[], %(stop_user)s::bigint[])"


def _heads(stops: str) -> str:
    """The first keys of shards, up to where each of them is to stop."""
    return f"""
select 'head', h.shard, (
  select string_agg(k.key, ''::bytea order by k.key)
  from (
    select {_KEY} as key from entries e
    where e.shard = h.shard and {_LISTED} and (e.rank_key, e.user_id) < (h.key, h.user_id)
    order by e.rank_key, e.user_id limit %(head)s::integer
  ) k
)
from {stops} as h(shard, key, user_id)
"""  # noqa: S608  # constants of this module


def _stops_at_found(whose: str) -> str:
    """Where shards are to stop: at the last user who is found and not too far down for that, else
    where it is said.
    """
    return f"""
stops as materialized (
  select distinct on (n.shard)
         n.shard, coalesce(f.rank_key, n.key) as key, coalesce(f.user_id, n.user_id) as user_id
  from unnest(%(shard)s::smallint[], %(stop_key)s::bytea[], %(stop_user)s::bigint[],
              %(near_key)s::bytea[], %(near_user)s::bigint[])
    as n(shard, key, user_id, near_key, near_user)
  left join found f on {whose} and (f.rank_key, f.user_id) <= (n.near_key, n.near_user)
  order by n.shard, f.rank_key desc nulls last, f.user_id desc nulls last
)
"""  # noqa: S608  # constants of this module


def _side(kind: str, least: str, most: str, direction: str) -> str:
    """Rows between two places, those at one end of them."""
    return f"""
select '{kind}', null::smallint, (
  select string_agg(r.row, ''::bytea order by r.row)
  from (
    -- Shard by shard: of an array a generic plan cannot tell the partitions, and would walk those
    -- that nobody asked for from end to end.
    select l.row from unnest(%(shard)s::smallint[]) as s(shard)
    cross join lateral (
      select {_ROW} as row, e.rank_key, e.user_id from entries e
      where e.shard = s.shard and {_LISTED}
        and (e.rank_key, e.user_id) >= {least} and (e.rank_key, e.user_id) < {most}
      order by e.rank_key {direction}, e.user_id {direction} limit %({kind})s::integer
    ) l
    order by l.rank_key {direction}, l.user_id {direction} limit %({kind})s::integer
  ) r
)
"""  # noqa: S608  # constants of this module


_LOW: Final = "(%(low_key)s::bytea, %(low_user)s::bigint)"
_HIGH: Final = "(%(high_key)s::bytea, %(high_user)s::bigint)"
_AT_USER: Final = "((select rank_key from found), (select user_id from found))"
_NO_USER: Final = "(''::bytea, 0::bigint)"

COUNT: Final = Statement.of(f"{_UNRANKED} union all {_heads(_STOPS)}")
USERS: Final = Statement.of(f"""
with {_FOUND}, {_stops_at_found("f.shard = n.shard")}
{_UNRANKED}
union all {_ITEMS}
union all {_heads("stops")}
""")
"""Users, and what stands before each in its own shard."""
WINDOW: Final = Statement.of(f"""
{_UNRANKED}
union all {_side("above", _LOW, "(%(end_key)s::bytea, %(end_user)s::bigint)", "desc")}
union all {_side("below", "(%(start_key)s::bytea, %(start_user)s::bigint)", _HIGH, "asc")}
union all {_heads(_STOPS)}
""")
AROUND: Final = Statement.of(f"""
with {_FOUND}, {_stops_at_found("true")}
{_UNRANKED}
union all {_ITEMS}
union all {_side("above", _NO_USER, _AT_USER, "desc")}
union all {_side("below", _AT_USER, _HIGH, "asc")}
union all {_heads("stops")}
""")
"""A user, its neighbours, and what stands before it in each shard."""
SKETCH: Final = Statement.of(f"""
with listed as materialized (
  select {_KEY} as key, row_number() over (order by e.rank_key, e.user_id) - 1 as rank
  from entries e
  where e.shard = %(shard)s::smallint and {_LISTED}
),
total as materialized (select count(*) as count from listed)
select t.count, array_agg(l.rank order by l.rank), string_agg(l.key, ''::bytea order by l.rank)
from total t
left join listed l
  on l.rank % greatest(1, (t.count + %(steps)s::bigint - 1) / %(steps)s) = 0
  or l.rank = t.count - 1
group by t.count
""")  # noqa: S608  # constants of this module
"""How many entries a shard has, and the keys of up to so many and one of them at equal distances.
"""


def _writes(ledger: str) -> Statement:
    return Statement.of(f"""
with recent as materialized (
  select season_no, user_id from outbox
  where xid >= %(horizon)s::text::xid8 order by xid limit %(limit)s
),
written as (
  select w.user_id % 16 as shard, count(distinct w.user_id) as writes
  from recent r cross join lateral unnest(r.season_no, r.user_id) as w(season_no, user_id)
  where w.season_no = %(season_no)s::integer
  group by 1
)
select {ledger} = %(ledger)s and (select count(*) < %(limit)s from recent)
       and (select below <= %(horizon)s::text::xid8 from outbox_trimmed),
       array(select shard::integer from written order by shard),
       array(select writes from written order by shard)
""")  # noqa: S608  # constants of these modules


WRITES: Final = _writes(LEDGER)
"""The entries of a season that were written since a horizon, by shard, each once; first, whether
the horizon is of this ledger, and the outbox still has them all and not too many transactions."""
WRITES_SEEN: Final = _writes(FOLLOWED_LEDGER)
"""The same, of those that a standby has replayed."""
