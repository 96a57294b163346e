-- Building a (season, shard) anew beside the one that is read. The token and the chunk counter
-- live next to the data, so a failover that took chunks back shows as a mismatch.

local function is_copy(m, season, token, chunk)
  local meta = redis.call('HMGET', m, 'b:' .. season, 'n:' .. season)
  return meta[1] == token and meta[2] == chunk
end

-- keys: m d H Z; args: season, token, horizon, now_ms, ledger.
local function begin(keys, args)
  local m, d, H, Z = unpack(keys)
  local season, token, horizon, now_ms, ledger = unpack(args)
  if redis.call('HSETNX', m, 'C', horizon) == 1 then
    -- T is from before this call, and the rows of every copy that can be of this incarnation are
    -- read after it: what was committed before T is in them, though it may be above the horizon.
    -- Nothing was acknowledged by this incarnation yet: whatever history goes on here has all.
    redis.call('HSET', m, 'I', token, 'T', now_ms, 'L', ledger, 'R', (history_here()))
    redis.call('UNLINK', d)
    redis.call('ZADD', d, -1, '')
  else
    -- A shard of a release that knew no incarnations gets its first.
    redis.call('HSETNX', m, 'I', token)
  end
  redis.call('UNLINK', H, Z)
  redis.call('HSET', m, 'b:' .. season, token, 'n:' .. season, 0)
  redis.call('ZADD', Z, 0, '')
  set_guard(H, BUILDING, 0, 0, redis.call('HGET', m, 'I'))
  return 'OK'
end

-- keys: m H Z; args: season, token, chunk, items. The last chunk may come twice, when the answer
-- to its first copy was lost.
local function load(keys, args)
  local m, H, Z = unpack(keys)
  local season, token, chunk, blob = unpack(args)
  local following = string.format('%d', chunk + 1)
  if is_copy(m, season, token, following) then
    return 'OK'
  end
  if not is_copy(m, season, token, chunk) or put(H, Z, BUILDING, redis.call('HGET', m, 'I'), blob) ~= 'OK' then
    return 'REFUSED'
  end
  redis.call('HSET', m, 'n:' .. season, following)
  return 'OK'
end

-- keys: m h z H Z; args: season, token, chunks.
local function swap(keys, args)
  local m, h, z, H, Z = unpack(keys)
  local season, token, chunks = unpack(args)
  if not is_copy(m, season, token, chunks) then
    return 'REFUSED'
  end
  local incarnation = redis.call('HGET', m, 'I')
  local epoch, live = check_guard(H, Z, BUILDING, incarnation)
  if not epoch then
    return 'REFUSED'
  end
  -- Past every epoch this place has shown: the old guard may be lost, the mark never goes back.
  epoch = tonumber(redis.call('HGET', m, 'C'))
  local old = redis.call('HGET', h, '')
  if old then
    local _, old_epoch = struct.unpack('>BI8', old)
    epoch = math.max(epoch, old_epoch + 1)
  end
  -- RENAME frees what it overwrites at once, which blocks for a big set; UNLINK does not.
  redis.call('UNLINK', h, z)
  redis.call('RENAME', H, h)
  redis.call('RENAME', Z, z)
  set_guard(h, READY, epoch, live, incarnation)
  redis.call('HDEL', m, 'b:' .. season, 'n:' .. season)
  return 'OK'
end

-- keys: m h z H Z; args: season.
local function drop(keys, args)
  local m, h, z, H, Z = unpack(keys)
  redis.call('HDEL', m, 'b:' .. args[1], 'n:' .. args[1])
  redis.call('UNLINK', h, z, H, Z)
  return 'OK'
end

redis.register_function(PREFIX .. 'begin', begin)
redis.register_function(PREFIX .. 'load', load)
redis.register_function(PREFIX .. 'swap', swap)
redis.register_function(PREFIX .. 'drop', drop)
