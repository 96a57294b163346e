-- Gives some of a user's entries the state that the user's marks ask for, and tells what was due.
--
-- A lateral subquery with OFFSET 0 is one look by key a season, whatever the planner is told about
-- joins. What meets a row that somebody holds waits and looks at it again.
with wanted as materialized (
  select s.season_no, (b.sort_order - 2)::bigint as score_flip,
         (b.subscore_sort_order - 2)::bigint as subscore_flip,
         case when exists (
           select from user_marks m
           where m.user_id = %(user_id)s::bigint and m.mark = 1 and m.board_no in (0, b.board_no)
         ) then 2 else 0 end as state
  from seasons s join boards b using (board_no)
  where b.delete_time is null
),
due as materialized (
  select w.*
  from wanted w
  cross join lateral (
    select from entries e
    where e.shard = %(shard)s::smallint and e.season_no = w.season_no
      and e.user_id = %(user_id)s::bigint and e.state in (0, 2) and e.state <> w.state
    offset 0
  ) e
  order by w.season_no
  limit %(limit)s
),
swept as (
  update entries e set state = 2 - e.state, revision = e.revision + 1
  where e.shard = %(shard)s::smallint and e.user_id = %(user_id)s::bigint
    and e.season_no = any(array(select season_no from due))
    and e.state in (0, 2)
    and e.state <> (select d.state from due d where d.season_no = e.season_no)
  returning e.*
),
announced as (
  insert into outbox (shards, season_no, user_id)
  select 1 << %(shard)s::integer, array_agg(season_no), array_agg(user_id) from swept
  having count(*) > 0
)
select d.season_no, s.user_id is not null,
       case when s.user_id is not null then pg_current_xact_id()::text::bigint end,
       case when s.user_id is not null then index_item(
         s.user_id, s.score, s.subscore, s.arrival, s.revision, s.state, s.achieve_time,
         d.score_flip, d.subscore_flip) end
from due d left join swept s using (season_no)
