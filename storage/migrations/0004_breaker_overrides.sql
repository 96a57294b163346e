-- What operators have set on the breakers of a fleet: the newest of each name. Machines look here
-- every few seconds, and leave here what they were told; each acts on its own copy, database or not.
create table breaker_overrides (
  name        text primary key,
  -- 1: the breaker decides, 2: forced open, 3: forced closed.
  mode        smallint not null check (mode between 1 and 3),
  expire_time timestamptz not null,
  -- The newest wins: by the clock of the machine that was told, then by its number.
  set_time_ms bigint not null check (set_time_ms between 0 and 1000000000000000),
  machine     bigint not null check (machine >= 0),
  reason      text not null,
  actor       text not null
);
