-- Users off the boards: who is hidden or being deleted, what is left to do for that, and the audit.
--
-- Workers of the release before know no marks: what they record of a hidden or deleted user shows.
-- Moderate nobody until all workers are of this release. If it was done all the same, the same call
-- once more mends it.

-- What speaks against a user's entries, on one board or (board_no 0) on every board, those made
-- later included. The ledger's statement looks in here for each submission: keep it small.
create table user_marks (
  user_id     bigint not null,
  board_no    integer not null,
  -- 1 hidden, 2 being deleted (only with board_no 0).
  mark        smallint not null check (mark in (1, 2)),
  -- When it was last asked for; a deletion takes the older ones with it. Not now(), which would be
  -- from before the wait for another decision about the user.
  create_time timestamptz not null default clock_timestamp(),
  primary key (user_id, board_no, mark),
  check (mark = 1 or board_no = 0)
);

-- Users whose entries have to be looked at again: a transaction that began before a mark changed
-- may commit an entry in the old state after the first look. storage/unfinished_removals.py says
-- why one more look at the right moment is enough.
create table user_sweeps (
  user_id   bigint primary key,
  -- When the job saw the row first; null: not yet.
  seen_time timestamptz,
  -- Every transaction that could not see the mark is below this id; null: not yet known.
  fence     xid8,
  -- How far the look behind the fence has come: a season.
  through   integer not null default 0
);

-- Deletions of users, those under way and, for the record, those completed.
create table user_deletions (
  deletion_no    bigint generated always as identity primary key,
  user_id        bigint not null,
  -- core.types.Erasure: 1 erase, 2 anonymize.
  erasure        smallint not null check (erasure in (1, 2)),
  create_time    timestamptz not null default clock_timestamp(),
  complete_time  timestamptz,
  -- Entries that became tombstones, and submissions that lost their user.
  entry_count    bigint not null default 0,
  event_count    bigint not null default 0,
  -- Submissions up to this id have been gone through; null: none.
  erased_through uuid
);
create index user_deletions_by_user on user_deletions (user_id, deletion_no);
create unique index user_deletions_under_way on user_deletions (user_id)
  where complete_time is null;

-- Who did what to a user, and why. Insert only.
create table audit_events (
  audit_no    bigint generated always as identity primary key,
  record_time timestamptz not null default now(),
  action      text not null check (action in ('hide_user', 'restore_user', 'delete_user')),
  user_id     bigint not null,
  -- Null: every board, every season.
  board_id    text,
  season_id   text,
  actor       text not null,
  reason      text not null,
  request_id  text not null,
  details     jsonb not null default '{}'
);
create index audit_events_by_user on audit_events (user_id, audit_no);

-- Hides the content of an erased submission, which is otherwise soon guessed from its digest.
create table erasure_keys (
  only_row boolean primary key default true check (only_row),
  secret   bytea not null
);
insert into erasure_keys (secret)
select sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- The transaction that last changed an entry's score, subscore, arrival or state: what a submission
-- that changes nothing found there. Null: from before this column.
alter table entries add column changed_xid xid8;

-- The open season among any number of past ones.
create index seasons_by_end on seasons (board_no, ends_at);
