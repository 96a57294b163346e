-- Who did what, on every machine: the lines of their audits, as they stand in their files.
--
-- What releases before this one have recorded stays in audit_events; nothing is written there any
-- more.
create table audit_lines (
  -- A chain is the audit of one machine; its lines are numbered from 1.
  chain    text collate "C" not null,
  sequence bigint not null check (sequence > 0),
  -- All of it, to the byte: core/audit_lines.py says what it is, and how its hash is made.
  line     text not null,
  -- What is asked for. Made of the line, so that they cannot tell anything else.
  kind     text generated always as (line::jsonb ->> 'kind') stored not null,
  time     text collate "C" generated always as (line::jsonb ->> 'time') stored not null,
  actor    text generated always as (line::jsonb ->> 'actor') stored,
  method   text generated always as (line::jsonb ->> 'method') stored,
  target   text generated always as (line::jsonb ->> 'target') stored,
  -- Of an outcome: the number of its action's line.
  action   bigint generated always as ((line::jsonb ->> 'action')::bigint) stored,
  primary key (chain, sequence),
  check (line::jsonb ->> 'chain' = chain and (line::jsonb ->> 'sequence')::bigint = sequence)
);
create index audit_lines_by_time on audit_lines (time desc, chain desc, sequence desc)
  where kind = 'action';
create index audit_lines_by_action on audit_lines (chain, action) where kind = 'outcome';

-- Against accidents. Who may change the schema can take it away; the chain tells it then.
create function audit_lines_stay() returns trigger language plpgsql as $$
begin
  raise exception 'lines of the audit are neither changed nor removed';
end
$$;
create trigger audit_lines_stay before update or delete or truncate on audit_lines
  for each statement execute function audit_lines_stay();
