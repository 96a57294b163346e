-- The truth: boards and their seasons, the entries of players, every submission, and the outbox
-- that the index follows.

-- Arrival numbers: one value per flush, taken when it is sealed. CACHE 1, because a block kept by
-- one session would let a later submission arrive before an acknowledged one (PROTOCOL P1).
create sequence arrival_flush as bigint cache 1;

create table boards (
  board_no            integer generated always as identity primary key,
  board_id            text not null check (board_id ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'),
  title               text not null,
  sort_order          smallint not null check (sort_order in (1, 2)),
  subscore_sort_order smallint not null check (subscore_sort_order in (1, 2)),
  operator            smallint not null check (operator between 1 and 4),
  min_score           bigint,
  max_score           bigint,
  client_writes       boolean not null,
  metadata            jsonb,
  version             bigint not null default 1,
  create_time         timestamptz not null default now(),
  update_time         timestamptz not null default now(),
  delete_time         timestamptz,
  check (min_score <= max_score)
);
-- A deleted board frees its name; its number stays taken for ever.
create unique index boards_by_id on boards (board_id) where delete_time is null;

create table seasons (
  season_no integer generated always as identity primary key,
  board_no  integer not null references boards,
  season_id text not null,
  starts_at timestamptz not null,
  ends_at   timestamptz not null default 'infinity',
  -- Set once the entries of a deleted board are gone.
  purged    boolean not null default false,
  unique (board_no, season_id),
  check (starts_at < ends_at)
);

-- One row a user and season. No foreign key to seasons: it would lock a season row per write.
-- The last three groups of columns let one statement tell what it did: the result before it, the
-- outcome, and the place of the submission in its batch (RETURNING knows old values from 18 on).
create table entries (
  user_id           bigint not null,
  score             bigint not null,
  subscore          bigint not null,
  arrival           bigint not null,
  revision          bigint not null,
  submission_count  bigint not null,
  achieve_time      timestamptz not null,
  update_time       timestamptz not null,
  prev_score        bigint,
  prev_subscore     bigint,
  prev_achieve_time timestamptz,
  season_no         integer not null,
  shard             smallint not null check (shard = user_id % 16),
  -- core.types.EntryState: 0 live, 1 deleted, 2 hidden, 3 a row that only holds the lock.
  state             smallint not null,
  outcome           smallint not null,
  batch_place       smallint not null,
  metadata          jsonb,
  primary key (shard, season_no, user_id)
) partition by list (shard);

do $$
begin
  for shard in 0..15 loop
    execute format(
      'create table entries_%1$s partition of entries for values in (%1$s) '
      'with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05)', shard);
  end loop;
end
$$;

-- Every submission with what became of it, found by its id alone: partitioned on the UUIDv7
-- itself, a partition a day, made ahead and dropped behind by a job.
create table score_events (
  id                uuid primary key,
  user_id           bigint not null,
  score             bigint not null,
  subscore          bigint not null,
  prev_score        bigint,
  prev_subscore     bigint,
  prev_achieve_time timestamptz,
  new_score         bigint,
  new_subscore      bigint,
  new_achieve_time  timestamptz,
  new_arrival       bigint,
  revision          bigint not null,
  record_time       timestamptz not null default now(),
  xid               xid8 not null default pg_current_xact_id(),
  season_no         integer not null,
  -- As requested; 0 where the board's own was taken.
  operator          smallint not null,
  outcome           smallint not null,
  digest            bytea not null
) partition by range (id);

-- What the index has to follow: one row a transaction, insert only (PROTOCOL P6).
create table outbox (
  xid         xid8 primary key default pg_current_xact_id(),
  record_time timestamptz not null default now(),
  shards      integer not null,
  season_no   integer[] not null,
  user_id     bigint[] not null
);

-- Rows of the outbox below this id may be gone: who has not followed so far must be built anew.
create table outbox_trimmed (
  only_row boolean primary key default true check (only_row),
  below    xid8 not null
);
insert into outbox_trimmed (below) values ('0');

-- Signs page and consistency tokens when settings give no secret.
create table signing_keys (
  key_no      integer generated always as identity primary key,
  secret      bytea not null,
  create_time timestamptz not null default now()
);

-- The smallest UUIDv7 of a moment.
create function uuid_at(moment timestamptz) returns uuid language sql stable strict
return (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- An entry as the index holds it, the same bytes as core.ordering.encode_item. The flips are -1
-- where the column is descending, else 0; with the sign bit flipped as well, bigint order becomes
-- byte order.
create function index_item(
  user_id bigint, score bigint, subscore bigint, arrival bigint, revision bigint,
  state smallint, achieve_time timestamptz, score_flip bigint, subscore_flip bigint
) returns bytea language sql stable strict
return int8send(user_id)
    || int8send(score # score_flip # (-9223372036854775808)::bigint)
    || int8send(subscore # subscore_flip # (-9223372036854775808)::bigint)
    || int8send(arrival)
    || substring(int8send(revision) from 3)
    || substring(int8send((state::bigint << 46)
                          | (extract(epoch from achieve_time) * 1000)::bigint) from 3);
