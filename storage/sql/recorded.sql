-- The stored first outcomes of submissions that were recorded before. Those without a user were
-- erased: their digest is sha256(key || digest of the content).
select e.id::text, e.digest, case when e.user_id = 0 then (select secret from erasure_keys) end,
       e.user_id, e.outcome, e.season_no, s.season_id, e.xid::text::bigint,
       e.new_score, e.new_subscore, (extract(epoch from e.new_achieve_time) * 1000)::bigint,
       e.prev_score, e.prev_subscore, (extract(epoch from e.prev_achieve_time) * 1000)::bigint
from score_events e join seasons s using (season_no)
where e.id = any(%(id)s::uuid[]) and e.id between %(first_id)s::uuid and %(last_id)s::uuid
