-- The full entries of some users of one season. Hidden ones too: who may see them, the reader
-- has decided.
select user_id, score, subscore, (extract(epoch from achieve_time) * 1000)::bigint,
       submission_count, (extract(epoch from update_time) * 1000)::bigint, metadata::text
from entries
where shard = any(%(shard)s::smallint[]) and season_no = %(season_no)s::integer
  and user_id = any(%(user_id)s::bigint[]) and state in (0, 2)
