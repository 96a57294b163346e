-- What every function shares: the guard of a (season, shard) and the conditional put.
--
-- m  meta: C (every transaction below it is in), T (when C was set, ms), I (the shard's
--    incarnation: a new one with each new C), L (the ledger that it is a copy of), R (the history
--    of which it is known that it has all that was acknowledged), and per season in rebuild
--    b:<season> (the builder's token) and n:<season> (the chunks it has loaded)
-- d  the transactions taken since C: xid -> xid
-- h  user_id (8 bytes) -> value (36 bytes, most of them kept in 25), and under '' the guard
-- z  the members of live entries, all with score 0: the 32-byte key and the last six bytes of the
--    value, so that a row of a page is there without its value
-- H, Z  the copy of h and z that is being built
--
-- d and z always hold the member '', which sorts before everything. A key that exists only
-- sometimes would make a migrating slot answer TRYAGAIN for as long as it is empty, and a lost z
-- would look like an empty board.
--
-- While a library is loaded only redis.register_function exists: nothing else is called out here.

local ITEM, VALUE, KEY = 44, 36, 32
local READY, BUILDING = 1, 2
local LIVE, HIDDEN = 0, 2 -- the two top bits of a value's sixth byte from its end
local SEEN_FOR_MS = 10
local CHUNK = 1000 -- unpack() puts arguments on a stack of about 8,000

-- Values of entries without a subscore are kept in 25 bytes: one that stands for the first two
-- bytes of the score, the subscore and the first two of the arrival, then all the others. The three
-- are ends of small numbers in either direction of a board.
local POSITIVE, NEGATIVE = '\128\0', '\127\255'
local NONE_UP = '\128\0\0\0\0\0\0\0\0\0'
local NONE_DOWN = '\127\255\255\255\255\255\255\255\0\0'
local HEADS = { POSITIVE, POSITIVE, NEGATIVE, NEGATIVE }
local MIDDLES = { NONE_UP, NONE_DOWN, NONE_UP, NONE_DOWN }
local FORMS = {
  [NONE_UP] = { [POSITIVE] = '\1', [NEGATIVE] = '\3' },
  [NONE_DOWN] = { [POSITIVE] = '\2', [NEGATIVE] = '\4' },
}

local function kept_of(value)
  local forms = FORMS[string.sub(value, 9, 18)]
  local form = forms and forms[string.sub(value, 1, 2)]
  return form and form .. string.sub(value, 3, 8) .. string.sub(value, 19) or value
end

local function value_of(kept)
  if not kept or #kept == VALUE then
    return kept
  end
  local form = string.byte(kept)
  return HEADS[form] .. string.sub(kept, 2, 7) .. MIDDLES[form] .. string.sub(kept, 8)
end

-- The member of a user's value, however that is kept.
local function member_of(kept, user)
  if #kept == VALUE then
    return string.sub(kept, 1, 24) .. user .. string.sub(kept, 31)
  end
  local form = string.byte(kept)
  local head, middle = HEADS[form] .. string.sub(kept, 2, 7), MIDDLES[form]
  return head .. middle .. string.sub(kept, 8, 13) .. user .. string.sub(kept, 20)
end

-- As numbers: Lua compares strings by the locale. The same bytes from the end, however it is kept.
local function revision_of(kept)
  return (struct.unpack('>I6', kept, #kept - 11))
end

local function state_of(kept)
  return math.floor(string.byte(kept, -6) / 64)
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
    local value, old = string.sub(blob, at, at + VALUE - 1), stored[i]
    if not old or revision_of(old) < revision_of(value) then
      local old_member = old and state_of(old) == LIVE and member_of(old, user)
      local new_member = state_of(value) == LIVE and member_of(value, user)
      if old_member ~= new_member then
        if old_member then
          gone[#gone + 1] = old_member
          change = change - 1
        end
        if new_member then
          come[#come + 1] = 0
          come[#come + 1] = new_member
          change = change + 1
        end
      end
      fields[#fields + 1] = user
      fields[#fields + 1] = kept_of(value)
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
