-- Taking transactions in, and moving the mark below which all of them are in.

local function fresh_xids(list, mark)
  local fresh, count = {}, 0
  for xid in string.gmatch(list, '%d+') do
    count = count + 1
    if tonumber(xid) >= mark then
      fresh[#fresh + 1] = xid
    end
  end
  return fresh, count
end

local function mark_done(d, xids)
  for first = 1, #xids, CHUNK do
    local members = {}
    for i = first, math.min(first + CHUNK - 1, #xids) do
      members[#members + 1] = xids[i]
      members[#members + 1] = xids[i]
    end
    redis.call('ZADD', d, unpack(members))
  end
end

-- keys: m d, then per season h z [H Z]; args: xids, then per season: number, '1' if H and Z are
-- declared, items. Replies UNBUILT or DONE for the shard, or a verdict for each season; where one
-- of them is BUILDING nothing was written, and the caller has to declare its H and Z.
local function apply(keys, args)
  local m, d = keys[1], keys[2]
  local fields = { 'C', 'I' }
  for at = 2, #args, 3 do
    fields[#fields + 1] = 'b:' .. args[at]
  end
  local meta = redis.call('HMGET', m, unpack(fields))
  if not meta[1] then
    return 'UNBUILT'
  end
  local incarnation = meta[2]
  local fresh, given = fresh_xids(args[1], tonumber(meta[1]))
  if given > 0 and #fresh == 0 then
    return 'DONE'
  end
  local verdicts, blocked = {}, false
  for season = 1, #fields - 2 do
    local undeclared = meta[season + 2] and args[season * 3] ~= '1'
    verdicts[season] = undeclared and 'BUILDING' or 'OK'
    blocked = blocked or undeclared
  end
  if blocked then
    return verdicts
  end
  local at = 3
  for season = 1, #fields - 2 do
    local blob = args[season * 3 + 1]
    verdicts[season] = put(keys[at], keys[at + 1], READY, incarnation, blob)
    at = at + 2
    if args[season * 3] == '1' then
      if meta[season + 2] then
        put(keys[at], keys[at + 1], BUILDING, incarnation, blob)
      end
      at = at + 2
    end
  end
  mark_done(d, fresh)
  return verdicts
end

-- keys: m d; args: since, horizon, count, ledger and, where it is known, caught_up_ms: everything
-- committed before that is below the horizon. Another healer may have known of a later time. All the
-- checks are here and not in the caller, because a failover may have taken transactions back since
-- the caller looked. A shard of a release that knew no ledgers learns its own.
local function checkpoint(keys, args)
  local m, d = keys[1], keys[2]
  local since, horizon, count, ledger, caught_up_ms = unpack(args)
  local mark = redis.call('HGET', m, 'C')
  if not mark or tonumber(mark) ~= tonumber(since) or tonumber(horizon) < tonumber(since) then
    return 'REFUSED'
  end
  if redis.call('ZCOUNT', d, since, '(' .. horizon) ~= tonumber(count) then
    return 'REFUSED'
  end
  redis.call('HSET', m, 'C', horizon)
  redis.call('HSETNX', m, 'L', ledger)
  if caught_up_ms and tonumber(caught_up_ms) > tonumber(redis.call('HGET', m, 'T') or 0) then
    redis.call('HSET', m, 'T', caught_up_ms)
  end
  redis.call('ZREMRANGEBYSCORE', d, 0, '(' .. horizon)
  return 'OK'
end

-- keys: m; args: history. To be called when all that had committed was brought to that history: if
-- another one goes on here by now, that is not known of it.
local function confirm(keys, args)
  local m, history = keys[1], args[1]
  if redis.call('HEXISTS', m, 'C') == 0 or history_here() ~= history then
    return 'REFUSED'
  end
  redis.call('HSET', m, 'R', history)
  return 'OK'
end

-- keys: m d; args: since, horizon.
local function done(keys, args)
  return redis.call('ZRANGEBYSCORE', keys[2], args[1], '(' .. args[2])
end

redis.register_function(PREFIX .. 'apply', apply)
redis.register_function(PREFIX .. 'checkpoint', checkpoint)
redis.register_function(PREFIX .. 'confirm', confirm)
redis.register_function({
  function_name = PREFIX .. 'done',
  callback = done,
  flags = { 'no-writes' },
})
