-- Makes tombstones without any content of the rows that a user who is being deleted has in the next
-- seasons, and tells of all of them; in the last row, how far it came.
--
-- Rows of deleted boards, too, as long as they are not purged. A tombstone of this kind is known by
-- its time, the epoch; a submission that it met and that was rejected leaves outcome 5. Joined as
-- in sweep_user.sql.
with stretch as materialized (
  select season_no, board_no, purged from seasons
  where season_no > %(after)s::integer
  order by season_no
  limit %(limit)s
),
found as materialized (
  select s.season_no, (b.sort_order - 2)::bigint as score_flip,
         (b.subscore_sort_order - 2)::bigint as subscore_flip, b.delete_time is null as indexed,
         e.changed_xid, e.content
  from stretch s
  cross join lateral (
    select b.sort_order, b.subscore_sort_order, b.delete_time from boards b
    where b.board_no = s.board_no
    offset 0
  ) b
  cross join lateral (
    select e.changed_xid, e.achieve_time > 'epoch' or e.outcome = 5 as content
    from entries e
    where e.shard = %(shard)s::smallint and e.season_no = s.season_no
      and e.user_id = %(user_id)s::bigint
    offset 0
  ) e
  where not s.purged
),
buried as (
  update entries e set
    outcome = case when e.state in (0, 2) then 1 else 2 end,
    state = 1, revision = e.revision + 1, changed_xid = pg_current_xact_id(), score = 0,
    subscore = 0, arrival = 0, submission_count = 0, achieve_time = 'epoch', update_time = now(),
    metadata = null, rank_key = null, prev_score = null, prev_subscore = null, prev_achieve_time = null
  where e.shard = %(shard)s::smallint and e.user_id = %(user_id)s::bigint
    -- Whoever comes late must not take what was submitted after the deletion.
    and exists (select from user_marks where user_id = %(user_id)s::bigint and mark = 2)
    and e.season_no = any(array(select season_no from found where content))
    and (e.achieve_time > 'epoch' or e.outcome = 5)
  returning e.*
),
announced as (
  insert into outbox (shards, season_no, user_id)
  select 1 << %(shard)s::integer, array_agg(b.season_no), array_agg(b.user_id)
  from buried b join found f using (season_no)
  where f.indexed
  having count(*) > 0
)
select f.season_no, coalesce(b.outcome = 1, false),
       case when not f.indexed then null
            when b.user_id is not null then pg_current_xact_id()::text::bigint
            when f.changed_xid >= t.below
              and f.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
            then f.changed_xid::text::bigint
            else 0 end,
       case when f.indexed and b.user_id is not null then index_item(
         b.user_id, b.score, b.subscore, b.arrival, b.revision, b.state, b.achieve_time,
         f.score_flip, f.subscore_flip) end,
       f.content, null::boolean
from found f cross join outbox_trimmed t left join buried b using (season_no)
union all
select max(season_no), false, null, null, false, count(*) = %(limit)s from stretch
