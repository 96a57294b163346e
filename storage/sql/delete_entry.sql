-- Deletes one entry: the row becomes a tombstone, and the event keeps what it was (PROTOCOL P5).
--
-- As in record.sql the entry comes first, and a twin that has committed the event in between raises
-- 23505. Nothing is stored where there is no standing entry.
with clock as materialized (
  select now() as time,
         uuid_at(now() - %(window_past)s::interval) as oldest,
         uuid_at(now() + %(window_future)s::interval) as newest
),
input as materialized (
  select c.time, s.season_no, (b.sort_order - 2)::bigint as score_flip,
         (b.subscore_sort_order - 2)::bigint as subscore_flip,
         case when %(id)s::uuid < c.oldest then 'too old'
              when %(id)s::uuid >= c.newest then 'in future'
              when exists (select from score_events where id = %(id)s::uuid) then 'known'
              when b.board_no is null then 'no board'
         end as refusal
  from clock c
  left join seasons s on s.season_no = %(season_no)s::integer
  -- By key, whatever the planner is told about joins; as in record.sql.
  left join lateral (
    select b.board_no, b.sort_order, b.subscore_sort_order, b.delete_time from boards b
    where b.board_no = s.board_no
    offset 0
  ) b on b.delete_time is null
),
deleted as (
  update entries e set state = 1, revision = e.revision + 1,
    changed_xid = pg_current_xact_id()
  where e.shard = %(shard)s::smallint and e.season_no = %(season_no)s::integer
    and e.user_id = %(user_id)s::bigint and e.state in (0, 2)
    and (select i.refusal from input i) is null
  returning e.*
),
recorded as (
  insert into score_events (
    id, user_id, season_no, operator, score, subscore, outcome, prev_score, prev_subscore,
    prev_achieve_time, revision, digest)
  -- Operator 5: a deletion.
  select %(id)s::uuid, d.user_id, d.season_no, 5, 0, 0, 1, d.score, d.subscore, d.achieve_time,
         d.revision, %(digest)s::bytea
  from deleted d
),
announced as (
  insert into outbox (shards, season_no, user_id)
  select 1 << d.shard::integer, array[d.season_no], array[d.user_id] from deleted d
)
select i.refusal,
       (extract(epoch from i.time) * 1000)::bigint,
       d.score, d.subscore,
       (extract(epoch from d.achieve_time) * 1000)::bigint,
       d.submission_count,
       (extract(epoch from d.update_time) * 1000)::bigint,
       d.metadata::text,
       case when d.user_id is not null then pg_current_xact_id()::text::bigint end,
       case when d.user_id is not null then index_item(
         d.user_id, d.score, d.subscore, d.arrival, d.revision, d.state, d.achieve_time,
         i.score_flip, i.subscore_flip) end
from input i left join deleted d on true
