-- What every function shares: the guard of a (season, shard) and the conditional put.
--
-- m  meta: C (every transaction below it is in), T (when C was set, ms), I (the shard's
--    incarnation: a new one with each new C), L (the ledger that it is a copy of), R (the history
--    of which it is known that it has all that was acknowledged), and per season in rebuild
--    b:<season> (the builder's token) and n:<season> (the chunks it has loaded)
-- d  the transactions taken since C: xid -> xid
-- h  user_id (8 bytes) -> value (36 bytes), and under '' the guard
-- z  the 32-byte keys of live entries, all with score 0
-- H, Z  the copy of h and z that is being built
--
-- d and z always hold the member '', which sorts before everything. A key that exists only
-- sometimes would make a migrating slot answer TRYAGAIN for as long as it is empty, and a lost z
-- would look like an empty board.
--
-- While a library is loaded only redis.register_function exists: nothing else is called out here.

local ITEM = 44
local ROW = 38 -- a key and the last six bytes of its value
local READY, BUILDING = 1, 2
local LIVE, HIDDEN = 0, 2 -- the two top bits of a value's 31st byte
local START = '(' -- after the member ''
local SEEN_FOR_MS = 10
local CHUNK = 1000 -- unpack() puts arguments on a stack of about 8,000

-- As numbers: Lua compares strings by the locale.
local function revision_of(value)
  return (struct.unpack('>I6', value, 25))
end

local function state_of(value)
  return math.floor(string.byte(value, 31) / 64)
end

-- What names the history of writes on this node: a new name with each start, and with each
-- promotion, which may have taken acknowledged writes back. It is asked of the node at the moment of
-- use, because nobody else can know it then. And whether the node is a primary.
local function history_here()
  local info = redis.call('INFO', 'replication')
  return string.match(info, 'master_replid:(%x+)'), string.find(info, 'role:master', 1, true)
end

local seen, seen_ms = nil, 0

-- The same for reads, at a tenth of its 8 us: a primary is not demoted, given the data of another
-- one and promoted again in 10 ms, and a start begins with another `seen`.
local function history_lately()
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  if seen and now_ms >= seen_ms and now_ms < seen_ms + SEEN_FOR_MS then
    return seen
  end
  local history, primary = history_here()
  seen, seen_ms = primary and history or nil, now_ms
  return history
end

local function set_guard(h, state, epoch, live, incarnation)
  redis.call('HSET', h, '', struct.pack('>BI8I8', state, epoch, live) .. incarnation)
end

-- nil and a verdict, or the epoch and the number of live entries. A season of an earlier
-- incarnation may lack anything that happened before the shard's mark: it is as good as lost.
local function check_guard(h, z, wanted, incarnation)
  local guard = redis.call('HGET', h, '')
  if not guard then
    return nil, 'UNBUILT'
  end
  local state, epoch, live = struct.unpack('>BI8I8', guard)
  if string.sub(guard, 18) ~= incarnation then
    return nil, 'UNBUILT'
  end
  if state ~= wanted or redis.call('ZCARD', z) ~= live + 1 then
    return nil, 'BROKEN'
  end
  return epoch, live
end

-- Puts the items in blob[first..last]; returns by how much the live count changed.
local function put_chunk(h, z, blob, first, last)
  local users = {}
  for at = first, last, ITEM do
    users[#users + 1] = string.sub(blob, at, at + 7)
  end
  local stored = redis.call('HMGET', h, unpack(users))
  local fields, gone, come, change = {}, {}, {}, 0
  for i, user in ipairs(users) do
    local at = first + (i - 1) * ITEM + 8
    local value, old = string.sub(blob, at, at + 35), stored[i]
    if not old or revision_of(old) < revision_of(value) then
      local old_key = old and state_of(old) == LIVE and string.sub(old, 1, 24) .. user
      local new_key = state_of(value) == LIVE and string.sub(value, 1, 24) .. user
      if old_key ~= new_key then
        if old_key then
          gone[#gone + 1] = old_key
          change = change - 1
        end
        if new_key then
          come[#come + 1] = 0
          come[#come + 1] = new_key
          change = change + 1
        end
      end
      fields[#fields + 1] = user
      fields[#fields + 1] = value
    end
  end
  if #gone > 0 then
    redis.call('ZREM', z, unpack(gone))
  end
  if #come > 0 then
    redis.call('ZADD', z, unpack(come))
  end
  if #fields > 0 then
    redis.call('HSET', h, unpack(fields))
  end
  return change
end

-- Puts every item whose revision is new, deleted and hidden users included: their values are the
-- tombstones that keep a late apply from bringing them back.
local function put(h, z, wanted, incarnation, blob)
  local epoch, live = check_guard(h, z, wanted, incarnation)
  if not epoch then
    return live
  end
  local change = 0
  for first = 1, #blob, ITEM * CHUNK do
    local last = math.min(first + ITEM * CHUNK - 1, #blob)
    change = change + put_chunk(h, z, blob, first, last)
  end
  if change ~= 0 then
    set_guard(h, wanted, epoch, live + change, incarnation)
  end
  return 'OK'
end
