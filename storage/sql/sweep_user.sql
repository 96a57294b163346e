-- Gives a user's entries in the next seasons the state that the user's marks ask for, and tells of
-- all the rows that the user has there; in the last row, how far it came.
--
-- A lateral subquery with OFFSET 0 is one look by key a season, whatever the planner is told about
-- joins. What meets a row that somebody holds waits and looks at it again.
with stretch as materialized (
  select season_no, board_no from seasons
  where season_no > %(after)s::integer
  order by season_no
  limit %(limit)s
),
found as materialized (
  select s.season_no, (b.sort_order - 2)::bigint as score_flip,
         (b.subscore_sort_order - 2)::bigint as subscore_flip, e.state, e.changed_xid, e.content,
         case when exists (
           select from user_marks m
           where m.user_id = %(user_id)s::bigint and m.mark = 1 and m.board_no in (0, b.board_no)
         ) then 2 else 0 end as wanted
  from stretch s
  cross join lateral (
    select b.board_no, b.sort_order, b.subscore_sort_order from boards b
    where b.board_no = s.board_no and b.delete_time is null
    offset 0
  ) b
  cross join lateral (
    -- As in bury_user.sql.
    select e.state, e.changed_xid, e.achieve_time > 'epoch' or e.outcome = 5 as content
    from entries e
    where e.shard = %(shard)s::smallint and e.season_no = s.season_no
      and e.user_id = %(user_id)s::bigint
    offset 0
  ) e
),
swept as (
  update entries e set state = 2 - e.state, revision = e.revision + 1,
    changed_xid = pg_current_xact_id()
  where e.shard = %(shard)s::smallint and e.user_id = %(user_id)s::bigint
    and e.season_no = any(array(
      select season_no from found where state in (0, 2) and state <> wanted))
    and e.state in (0, 2)
    and e.state <> (select f.wanted from found f where f.season_no = e.season_no)
  returning e.*
),
announced as (
  insert into outbox (shards, season_no, user_id)
  select 1 << %(shard)s::integer, array_agg(season_no), array_agg(user_id) from swept
  having count(*) > 0
)
select f.season_no, s.user_id is not null,
       case when s.user_id is not null then pg_current_xact_id()::text::bigint
            -- Older ones are no longer in the outbox: the index has them or is built anew. Larger
            -- ones are of another cluster that this one was restored from.
            when f.changed_xid >= t.below
              and f.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
            then f.changed_xid::text::bigint
            else 0 end,
       case when s.user_id is not null then index_item(
         s.user_id, s.score, s.subscore, s.arrival, s.revision, s.state, s.achieve_time,
         f.score_flip, f.subscore_flip) end,
       f.content, null::boolean
from found f cross join outbox_trimmed t left join swept s using (season_no)
union all
select max(season_no), false, null, null, false, count(*) = %(limit)s from stretch
