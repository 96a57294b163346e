-- Makes tombstones without any content of some rows of a user who is being deleted, and tells what
-- was due.
--
-- Rows of deleted boards, too, as long as they are not purged. A tombstone of this kind is known by
-- its time, the epoch; a submission that it met and that was rejected leaves outcome 5. Joined as
-- in sweep_user.sql.
with due as materialized (
  select s.season_no, (b.sort_order - 2)::bigint as score_flip,
         (b.subscore_sort_order - 2)::bigint as subscore_flip, b.delete_time is null as indexed
  from seasons s
  join boards b using (board_no)
  cross join lateral (
    select from entries e
    where e.shard = %(shard)s::smallint and e.season_no = s.season_no
      and e.user_id = %(user_id)s::bigint and (e.achieve_time > 'epoch' or e.outcome = 5)
    offset 0
  ) e
  where not s.purged
    -- Whoever comes late must not take what was submitted after the deletion.
    and exists (select from user_marks where user_id = %(user_id)s::bigint and mark = 2)
  order by s.season_no
  limit %(limit)s
),
buried as (
  update entries e set
    outcome = case when e.state in (0, 2) then 1 else 2 end,
    state = 1, revision = e.revision + 1, score = 0, subscore = 0, arrival = 0,
    submission_count = 0, achieve_time = 'epoch', update_time = now(), metadata = null,
    prev_score = null, prev_subscore = null, prev_achieve_time = null
  where e.shard = %(shard)s::smallint and e.user_id = %(user_id)s::bigint
    and e.season_no = any(array(select season_no from due))
    and (e.achieve_time > 'epoch' or e.outcome = 5)
  returning e.*
),
announced as (
  insert into outbox (shards, season_no, user_id)
  select 1 << %(shard)s::integer, array_agg(b.season_no), array_agg(b.user_id)
  from buried b join due d using (season_no)
  where d.indexed
  having count(*) > 0
)
select d.season_no, coalesce(b.outcome = 1, false),
       case when d.indexed and b.user_id is not null
            then pg_current_xact_id()::text::bigint end,
       case when d.indexed and b.user_id is not null then index_item(
         b.user_id, b.score, b.subscore, b.arrival, b.revision, b.state, b.achieve_time,
         d.score_flip, d.subscore_flip) end
from due d left join buried b using (season_no)
