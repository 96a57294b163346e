-- An order of the entries in PostgreSQL itself, so that pages can be read while the index is away.
-- The indexes over it are made afterwards, without holding up writes: storage/rank_indexes.py.

-- Boards that do without it, which makes their writes cheaper.
alter table boards add column index_only boolean not null default false;

-- The first 24 bytes of the entry's key in core.ordering, so that plain byte order is rank order
-- here as well. Null: to be filled by a job, or the board is index_only.
alter table entries add column rank_key bytea;

-- The flips as in index_item.
create function rank_key_of(
  score bigint, subscore bigint, arrival bigint, score_flip bigint, subscore_flip bigint
) returns bytea language sql immutable strict
return int8send(score # score_flip # (-9223372036854775808)::bigint)
    || int8send(subscore # subscore_flip # (-9223372036854775808)::bigint)
    || int8send(arrival);

-- Workers of the release before move entries and leave their keys alone. An index that looks for
-- such keys would have to know the arrival, and no update could stay within its page any more.
create function forget_rank_key() returns trigger language plpgsql as $$
begin
  new.rank_key := null;
  return new;
end
$$;
create trigger forget_rank_key before update on entries for each row
  when (new.arrival <> old.arrival and new.rank_key = old.rank_key)
  execute function forget_rank_key();
