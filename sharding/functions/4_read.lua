-- Reads of every shard that lives on a node in one call. Their keys are named in the arguments,
-- because a call cannot declare keys of two slots; each shard is read under its own pcall, so that
-- one that moves away costs the others nothing. A shard asked alone declares its keys as well.

-- nil and a verdict, or the epoch and the live count of a shard that shows all the xids.
local function check_view(m, d, h, z, xids)
  local mark, incarnation = unpack(redis.call('HMGET', m, 'C', 'I'))
  if not mark then
    return nil, 'UNBUILT'
  end
  local epoch, live = check_guard(h, z, READY, incarnation)
  if not epoch then
    return nil, live
  end
  for xid in string.gmatch(xids, '%d+') do
    if tonumber(xid) >= tonumber(mark) and not redis.call('ZSCORE', d, xid) then
      return nil, 'BEHIND'
    end
  end
  return epoch, live
end

-- Reads each group of `width` arguments after the first `shared` ones.
local function each_group(args, shared, width, read)
  local replies = {}
  for at = shared + 1, #args, width do
    local fine, reply = pcall(read, at)
    replies[#replies + 1] = fine and reply or 'ERROR'
  end
  return replies
end

-- As each_group, for groups that begin with m d h z xids; read(h, z, at) adds to the reply.
local function each_shard(args, shared, extra, read)
  return each_group(args, shared, 5 + extra, function(at)
    local h, z = args[at + 2], args[at + 3]
    local epoch, live = check_view(args[at], args[at + 1], h, z, args[at + 4])
    if not epoch then
      return live
    end
    return { epoch, live, read(h, z, args[at + 5]) }
  end)
end

local function values_of(h, users)
  local values = {}
  for first = 1, #users, CHUNK do
    local last = math.min(first + CHUNK - 1, #users)
    for _, value in ipairs(redis.call('HMGET', h, unpack(users, first, last))) do
      table.insert(values, value)
    end
  end
  return values
end

local function count_before(z, cutoff)
  return struct.pack('>I8', redis.call('ZLEXCOUNT', z, START, '(' .. cutoff))
end

-- args: cutoff length, then per shard m d h z xids users. Adds the values of the users, and for
-- each the number of entries that stand before that much of its key.
local function users(_, args)
  local length = tonumber(args[1])
  return each_shard(args, 1, 1, function(h, z, blob)
    local asked = {}
    for at = 1, #blob, 8 do
      table.insert(asked, string.sub(blob, at, at + 7))
    end
    local values, counts, gone = values_of(h, asked), {}, string.rep('\0', 36)
    for i, value in ipairs(values) do
      if value and is_live(value) then
        counts[i] = count_before(z, string.sub(string.sub(value, 1, 24) .. asked[i], 1, length))
      else
        values[i] = gone
        counts[i] = string.sub(gone, 1, 8)
      end
    end
    return table.concat(values), table.concat(counts)
  end)
end

-- args: cutoff length, cutoffs, then per shard m d h z xids.
local function ranks(_, args)
  local length, blob = tonumber(args[1]), args[2]
  local cutoffs = {}
  for at = 1, #blob, length do
    table.insert(cutoffs, string.sub(blob, at, at + length - 1))
  end
  return each_shard(args, 2, 0, function(_, z)
    local counts = {}
    for i, cutoff in ipairs(cutoffs) do
      counts[i] = count_before(z, cutoff)
    end
    return table.concat(counts)
  end)
end

-- args: after, limit, then per shard m d h z xids. Adds the number of entries up to `after`, the
-- keys that follow, and the last six bytes of their values.
local function page(_, args)
  local after, limit = args[1], args[2]
  return each_shard(args, 2, 0, function(h, z)
    local before, keys = 0, nil
    if after == '' then
      keys = redis.call('ZRANGE', z, 1, limit)
    else
      before = redis.call('ZLEXCOUNT', z, START, '[' .. after)
      keys = redis.call('ZRANGE', z, '(' .. after, '+', 'BYLEX', 'LIMIT', 0, limit)
    end
    local asked, tails = {}, {}
    for i, key in ipairs(keys) do
      asked[i] = string.sub(key, 25)
    end
    for i, value in ipairs(values_of(h, asked)) do
      tails[i] = string.sub(value, 31)
    end
    return before, table.concat(keys), table.concat(tails)
  end)
end

-- args: number of seasons, then per shard m and for each season h z. Replies C, T, live entries,
-- whether anything is being built, and the places of the seasons that cannot be read.
local function state(_, args)
  local seasons = tonumber(args[1])
  return each_group(args, 1, 1 + 2 * seasons, function(at)
    local meta = redis.call('HMGET', args[at], 'C', 'T', 'I')
    local marks = (meta[1] and 1 or 0) + (meta[2] and 1 or 0) + (meta[3] and 1 or 0)
    -- Whatever else m holds belongs to a copy.
    local building = redis.call('HLEN', args[at]) > marks and 1 or 0
    local total, unbuilt = 0, {}
    for season = 1, seasons do
      local h = args[at + 2 * season - 1]
      local epoch, live = check_guard(h, args[at + 2 * season], READY, meta[3])
      if epoch and meta[1] then
        total = total + live
      else
        table.insert(unbuilt, season - 1)
      end
    end
    return { meta[1], meta[2], total, building, unbuilt }
  end)
end

local function register(name, callback)
  redis.register_function({
    function_name = PREFIX .. name,
    callback = callback,
    flags = { 'no-writes', 'allow-cross-slot-keys' },
  })
end

register('users', users)
register('ranks', ranks)
register('page', page)
register('state', state)
