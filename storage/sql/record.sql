-- Records one wave of a flush: each id and each (board, user) stands in it at most once.
--
-- The entries come first and tell their outcome, then the events are written with it; an event
-- that a concurrent twin has committed in between raises 23505, and the whole transaction runs
-- again (PROTOCOL P2). The ORDER BY of the two inserts orders their locks: entries, then ids.
-- The arrays are subscripted by place, because EXCLUDED carries only columns of the table.
with
clock as materialized (
  -- Whole milliseconds: what the index keeps, so that both tell the same time.
  select date_trunc('milliseconds', now()) as time,
         -- A flush that is sealed now has taken it in this transaction.
         coalesce(%(arrival)s::bigint, currval('arrival_flush') * 1024) as arrival,
         uuid_at(now() - %(window_past)s::interval) as oldest,
         uuid_at(now() + %(window_future)s::interval) as newest
),
known as materialized (
  -- The bounds name the few partitions to look into: of an array a generic plan cannot tell.
  select id from score_events
  where id = any(%(id)s::uuid[]) and id between %(first_id)s::uuid and %(last_id)s::uuid
),
defined as materialized (
  -- The definitions that still hold, with the open seasons: one look by key each, however many
  -- boards and past seasons there are. Deletion is tested outside: inside it would let the planner
  -- walk through the index of the boards by name. The order names the index of the seasons.
  select i.board_no, i.version, b.index_only, s.season_no, s.season_id
  from (
    select distinct board_no, version
    from unnest(%(board_no)s::integer[], %(board_version)s::bigint[]) as i(board_no, version)
  ) i
  join lateral (
    select b.delete_time, b.index_only from boards b
    where b.board_no = i.board_no and b.version = i.version
    offset 0
  ) b on b.delete_time is null
  left join lateral (
    select s.season_no, s.season_id from seasons s
    where s.board_no = i.board_no and s.starts_at <= now() and now() < s.ends_at
    order by s.ends_at limit 1
  ) s on true
),
input as materialized (
  select i.id, i.place, i.user_id, (i.user_id % 16)::smallint as shard, i.score, i.subscore,
         i.operator, i.requested, i.low, i.high, i.score_flip, i.subscore_flip,
         c.arrival + i.flush_place as arrival, i.metadata, i.digest, b.index_only, b.season_no, b.season_id,
         -- Bits: 1 hidden, 2 being deleted. A subquery here is one look by key a row, whatever the
         -- planner is told about joins.
         coalesce((select bit_or(m.mark) from user_marks m
                   where m.user_id = i.user_id and (m.board_no = 0 or m.board_no = i.board_no)),
                  0) as marks,
         case when i.id < c.oldest then 'too old'
              when i.id >= c.newest then 'in future'
              when k.id is not null then 'known'
              when b.board_no is null then 'board changed'
              when b.season_no is null then 'not open'
         end as refusal
  from clock c
  cross join unnest(
    %(id)s::uuid[], %(board_no)s::integer[], %(board_version)s::bigint[], %(user_id)s::bigint[],
    %(score)s::bigint[], %(subscore)s::bigint[], %(operator)s::smallint[],
    %(requested)s::smallint[], %(low)s::bigint[], %(high)s::bigint[], %(score_flip)s::bigint[],
    %(subscore_flip)s::bigint[], %(flush_place)s::integer[], %(metadata)s::jsonb[], %(digest)s::bytea[]
  ) with ordinality as i(
    id, board_no, board_version, user_id, score, subscore, operator, requested, low, high,
    score_flip, subscore_flip, flush_place, metadata, digest, place)
  left join known k on k.id = i.id
  left join defined b on b.board_no = i.board_no and b.version = i.board_version
),
fresh as materialized (
  -- The result of each submission if the user has no entry yet.
  select i.*, r.score as first_score, r.subscore as first_subscore,
         coalesce(r.score between i.low and i.high and r.subscore is not null, false) as counts
  from input i
  cross join lateral (
    select case when i.operator <> 4 then i.score
                when i.score > -9223372036854775808 then -i.score end as score,
           case when i.operator <> 4 then i.subscore
                when i.subscore > -9223372036854775808 then -i.subscore end as subscore
  ) r
  -- All or nothing: what is checked against an old definition goes again, and nothing that was
  -- sent after it may be recorded before it.
  where i.refusal is null and i.marks & 2 = 0
    and not exists (select from input where refusal = 'board changed')
),
written as (
  insert into entries as e (
    shard, season_no, user_id, score, subscore, arrival, revision, state, submission_count,
    achieve_time, update_time, metadata, outcome, batch_place, changed_xid, rank_key)
  select f.shard, f.season_no, f.user_id,
         case when f.counts then f.first_score else 0 end,
         case when f.counts then f.first_subscore else 0 end,
         f.arrival, f.counts::integer, case when f.counts then (f.marks & 1) * 2 else 3 end,
         f.counts::integer,
         c.time, c.time, case when f.counts then f.metadata end,
         case when f.counts then 1 else 5 end, f.place,
         case when f.counts then pg_current_xact_id() end,
         case when not f.index_only then rank_key_of(
           case when f.counts then f.first_score else 0 end,
           case when f.counts then f.first_subscore else 0 end,
           f.arrival, f.score_flip, f.subscore_flip) end
  from fresh f cross join clock c
  order by f.shard, f.season_no, f.user_id
  on conflict (shard, season_no, user_id) do update set (
    score, subscore, arrival, revision, state, submission_count, achieve_time, update_time,
    metadata, prev_score, prev_subscore, prev_achieve_time, outcome, batch_place, changed_xid,
    rank_key
  ) = (
    select case when o.outcome = 1 then r.score else e.score end,
           case when o.outcome = 1 then r.subscore else e.subscore end,
           case when o.outcome = 1 then excluded.arrival else e.arrival end,
           e.revision + (o.outcome = 1)::integer,
           case when o.outcome = 1 and not x.standing then excluded.state else e.state end,
           case when x.standing then e.submission_count else 0 end + (o.outcome <> 5)::integer,
           case when o.outcome = 1 then excluded.achieve_time else e.achieve_time end,
           case when o.outcome <> 5 then excluded.update_time else e.update_time end,
           case when o.outcome = 1 then (%(metadata)s::jsonb[])[excluded.batch_place]
                else e.metadata end,
           case when x.standing then e.score end,
           case when x.standing then e.subscore end,
           case when x.standing then e.achieve_time end,
           o.outcome,
           excluded.batch_place,
           case when o.outcome = 1 then pg_current_xact_id() else e.changed_xid end,
           -- One of a new entry is null where the board keeps none.
           case when o.outcome <> 1 then e.rank_key
                when excluded.rank_key is not null
                then rank_key_of(r.score, r.subscore, excluded.arrival, x.score_flip,
                                 x.subscore_flip) end
    from (
      select e.state in (0, 2) as standing,
             case when e.state in (0, 2) then e.score else 0 end as old_score,
             case when e.state in (0, 2) then e.subscore else 0 end as old_subscore,
             (%(operator)s::smallint[])[excluded.batch_place] as operator,
             (%(score)s::bigint[])[excluded.batch_place] as score,
             (%(subscore)s::bigint[])[excluded.batch_place] as subscore,
             (%(low)s::bigint[])[excluded.batch_place] as low,
             (%(high)s::bigint[])[excluded.batch_place] as high,
             (%(score_flip)s::bigint[])[excluded.batch_place] as score_flip,
             (%(subscore_flip)s::bigint[])[excluded.batch_place] as subscore_flip,
             9223372036854775807 as most,
             (-9223372036854775808)::bigint as least
      offset 0
    ) x
    cross join lateral (
      select x.operator = 1 and x.standing
             and (x.old_score # x.score_flip, x.old_subscore # x.subscore_flip)
                 <= (x.score # x.score_flip, x.subscore # x.subscore_flip) as keeps
      offset 0
    ) b
    cross join lateral (
      -- Null where the sum would leave int64: tested before adding, so that nothing overflows.
      select case when b.keeps then x.old_score
                  when x.operator <= 2 then x.score
                  when x.operator = 3 and x.score >= 0 and x.old_score > x.most - x.score then null
                  when x.operator = 3 and x.score < 0 and x.old_score < x.least - x.score then null
                  when x.operator = 3 then x.old_score + x.score
                  when x.score >= 0 and x.old_score < x.least + x.score then null
                  when x.score < 0 and x.old_score > x.most + x.score then null
                  else x.old_score - x.score end as score,
             case when b.keeps then x.old_subscore
                  when x.operator <= 2 then x.subscore
                  when x.operator = 3 and x.subscore >= 0 and x.old_subscore > x.most - x.subscore then null
                  when x.operator = 3 and x.subscore < 0 and x.old_subscore < x.least - x.subscore then null
                  when x.operator = 3 then x.old_subscore + x.subscore
                  when x.subscore >= 0 and x.old_subscore < x.least + x.subscore then null
                  when x.subscore < 0 and x.old_subscore > x.most + x.subscore then null
                  else x.old_subscore - x.subscore end as subscore
      offset 0
    ) r
    cross join lateral (
      select case when r.score is null or r.subscore is null then 5
                  when x.standing and r.score = e.score and r.subscore = e.subscore then 2
                  when r.score not between x.low and x.high then 5
                  else 1 end::smallint as outcome
      offset 0
    ) o
  )
  returning e.shard, e.season_no, e.user_id, e.score, e.subscore, e.arrival, e.revision, e.state,
            e.submission_count, e.achieve_time, e.update_time, e.metadata, e.prev_score,
            e.prev_subscore, e.prev_achieve_time, e.outcome, e.batch_place, e.changed_xid
),
recorded as (
  insert into score_events (
    id, user_id, season_no, operator, score, subscore, outcome, prev_score, prev_subscore,
    prev_achieve_time, new_score, new_subscore, new_achieve_time, new_arrival, revision, xid,
    digest)
  -- With the transaction behind what is told, so that a retry is told the same one.
  select f.id, f.user_id, f.season_no, f.requested, f.score, f.subscore, w.outcome, w.prev_score,
         w.prev_subscore, w.prev_achieve_time,
         case when w.state in (0, 2) then w.score end,
         case when w.state in (0, 2) then w.subscore end,
         case when w.state in (0, 2) then w.achieve_time end,
         case when w.state in (0, 2) then w.arrival end,
         w.revision, coalesce(w.changed_xid, '0'), f.digest
  from written w join fresh f on f.place = w.batch_place
  order by f.id
),
announced as (
  insert into outbox (shards, season_no, user_id)
  select bit_or(1 << (user_id % 16)::integer), array_agg(season_no), array_agg(user_id)
  from (
    select season_no, user_id from written where outcome = 1
    union
    select * from unnest(%(earlier_season_no)s::integer[], %(earlier_user_id)s::bigint[])
  ) changed
  where %(last_wave)s
  having count(*) > 0
)
select i.place,
       case when i.refusal is null and i.marks & 2 = 2 then 'being deleted' else i.refusal end,
       (extract(epoch from c.time) * 1000)::bigint,
       i.season_no, i.season_id,
       w.outcome, w.state, w.score, w.subscore,
       (extract(epoch from w.achieve_time) * 1000)::bigint,
       w.submission_count,
       (extract(epoch from w.update_time) * 1000)::bigint,
       w.metadata::text,
       w.prev_score, w.prev_subscore,
       (extract(epoch from w.prev_achieve_time) * 1000)::bigint,
       coalesce(w.changed_xid, '0')::text::bigint,
       case when w.outcome = 1 then index_item(
         w.user_id, w.score, w.subscore, w.arrival, w.revision, w.state, w.achieve_time,
         i.score_flip, i.subscore_flip) end
from input i
cross join clock c
left join written w on w.batch_place = i.place
