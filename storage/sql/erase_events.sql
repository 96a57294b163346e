-- Takes the user out of submissions, in the next stretch of ids: there is no index on users, so all
-- submissions are gone through (PROTOCOL Q4). Tells for each user how many there were, and with no
-- user how many were looked at and the last id.
--
-- The id stays, with a keyed digest: a late retry is still a duplicate (PROTOCOL Q7).
with stretch as materialized (
  select id, user_id from score_events
  where id > coalesce(%(through)s::uuid, '00000000-0000-0000-0000-000000000000')
  order by id
  limit %(limit)s
),
found as materialized (
  select id, user_id from stretch
  where user_id = any(%(erase)s::bigint[]) or user_id = any(%(anonymize)s::bigint[])
),
key as materialized (select secret from erasure_keys),
erased as (
  update score_events e set (
    user_id, revision, digest, score, subscore, prev_score, prev_subscore, prev_achieve_time,
    new_score, new_subscore, new_achieve_time, new_arrival
  ) = (
    -- The revision would lead to the user: the tombstone has the next ones.
    select 0, 0, sha256(key.secret || e.digest),
           case when kept then e.score else 0 end,
           case when kept then e.subscore else 0 end,
           case when kept then e.prev_score end,
           case when kept then e.prev_subscore end,
           case when kept then e.prev_achieve_time end,
           case when kept then e.new_score end,
           case when kept then e.new_subscore end,
           case when kept then e.new_achieve_time end,
           case when kept then e.new_arrival end
    from key cross join lateral (select e.user_id = any(%(anonymize)s::bigint[]) as kept) k
  )
  where e.id = any(array(select id from found))
)
select user_id, count(*), null::uuid from found group by user_id
union all
select null, (select count(*) from stretch), (select id from stretch order by id desc limit 1)
