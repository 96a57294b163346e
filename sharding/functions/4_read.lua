-- Reads of every shard that lives on a node in one call. Their keys are named in the arguments,
-- because a call cannot declare keys of two slots; each shard is read under its own pcall, so that
-- one that moves away costs the others nothing. A shard asked alone declares its keys as well.

-- nil and a verdict, or the epoch, the live count and T (0: unknown) of a shard that shows all the
-- xids. They may begin with the ledger that they are of and a colon.
local function check_view(m, d, h, z, xids, history)
  local mark, incarnation, marked_ms, confirmed, ledger =
    unpack(redis.call('HMGET', m, 'C', 'I', 'T', 'R', 'L'))
  if not mark then
    return nil, 'UNBUILT'
  end
  if confirmed ~= history then
    return nil, 'SUSPECT'
  end
  local epoch, live = check_guard(h, z, READY, incarnation)
  if not epoch then
    return nil, live
  end
  local wanted, ids = string.match(xids, '^(.*):([%d,]*)$')
  if wanted and ledger and string.sub(ledger, 1, #wanted) ~= wanted then
    return nil, 'BEHIND'
  end
  for xid in string.gmatch(ids or xids, '%d+') do
    if tonumber(xid) >= tonumber(mark) and not redis.call('ZSCORE', d, xid) then
      return nil, 'BEHIND'
    end
  end
  return epoch, live, tonumber(marked_ms) or 0
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

-- As each_group, for groups that begin with m d h z xids. Replies epoch, live count and T, and what
-- read(h, z, at, live) adds; `at` is the place of the group's sixth argument.
local function each_shard(args, shared, extra, read)
  local history = history_lately()
  return each_group(args, shared, 5 + extra, function(at)
    local h, z = args[at + 2], args[at + 3]
    local epoch, live, marked_ms = check_view(args[at], args[at + 1], h, z, args[at + 4], history)
    if not epoch then
      return live
    end
    return { epoch, live, marked_ms, read(h, z, at + 5, live) }
  end)
end

local function cut(blob, length)
  local parts = {}
  for at = 1, #blob, length do
    parts[#parts + 1] = string.sub(blob, at, at + length - 1)
  end
  return parts
end

-- false for a user who has none.
local function values_of(h, users)
  local values = {}
  for first = 1, #users, CHUNK do
    local last = math.min(first + CHUNK - 1, #users)
    for _, kept in ipairs(redis.call('HMGET', h, unpack(users, first, last))) do
      values[#values + 1] = value_of(kept)
    end
  end
  return values
end

-- The cutoff has a byte at least. Counted with the member '': to find what stands behind it takes
-- a walk of its own.
local function count_before(z, cutoff)
  return redis.call('ZLEXCOUNT', z, '-', '(' .. cutoff) - 1
end

-- A hidden entry keeps its key, and is told with the place that it would have.
local function is_told(value)
  local state = state_of(value)
  return state == LIVE or state == HIDDEN
end

-- args: cutoff length, then per shard m d h z xids users. Adds the values of the users, and for
-- each the number of entries that stand before that much of its key.
local function users(_, args)
  local length = tonumber(args[1])
  return each_shard(args, 1, 1, function(h, z, at)
    local asked = cut(args[at], 8)
    local values, counts, gone = values_of(h, asked), {}, string.rep('\0', VALUE)
    for i, value in ipairs(values) do
      if value and is_told(value) then
        local key = string.sub(value, 1, 24) .. asked[i]
        counts[i] = struct.pack('>I8', count_before(z, string.sub(key, 1, length)))
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
  local length = tonumber(args[1])
  local cutoffs = cut(args[2], length)
  return each_shard(args, 2, 0, function(_, z)
    local counts = {}
    for i, cutoff in ipairs(cutoffs) do
      counts[i] = struct.pack('>I8', count_before(z, cutoff))
    end
    return table.concat(counts)
  end)
end

-- The rows of the last members of a range, last one first.
local function rows_above(z, low, high, count)
  return table.concat(redis.call('ZRANGE', z, high, low, 'BYLEX', 'REV', 'LIMIT', 0, count))
end

-- The rows of the first members of a range.
local function rows_below(z, low, high, count)
  return table.concat(redis.call('ZRANGE', z, low, high, 'BYLEX', 'LIMIT', 0, count))
end

-- args: point, then the two ends of a range and the rows wanted of its end, the same of a range of
-- whose start they are wanted; then per shard m d h z xids. Adds the number of entries before the
-- point, and the rows.
local function window(_, args)
  local point = args[1]
  return each_shard(args, 7, 0, function(_, z)
    local above = args[4] == '0' and '' or rows_above(z, args[2], args[3], args[4])
    local below = args[7] == '0' and '' or rows_below(z, args[5], args[6], args[7])
    return point == '' and 0 or count_before(z, point), above, below
  end)
end

-- How many entries stand before a key, and the places of the rows next to it on either side; `own`:
-- how many stand at the key itself.
local function beside(z, key, above, below, own)
  local before = count_before(z, key)
  -- The member '' has index 0, so the entry right before the key has index `before`. Made strings
  -- once: each number given is printed anew, and by another rule.
  local first = string.format('%d', math.max(1, before + 1 - above))
  local last = string.format('%d', before + own + below)
  return before, redis.call('ZRANGE', z, first, last)
end

-- args: rows wanted above and below each user, then per shard m d h z xids users. Adds for each
-- user the value, '' if it has none, how many entries stand before it, and the rows on either side
-- of it, best first.
local function around(_, args)
  local above, below = tonumber(args[1]), tonumber(args[2])
  return each_shard(args, 2, 1, function(h, z, at)
    local users, told = cut(args[at], 8), {}
    for i, value in ipairs(values_of(h, users)) do
      local place = 3 * i
      told[place - 2], told[place - 1], told[place] = '', 0, ''
      if value and is_told(value) then
        local key = string.sub(value, 1, 24) .. users[i]
        local own = state_of(value) == LIVE and 1 or 0
        local before, rows = beside(z, key, above, below, own)
        local place_of_own = math.min(before, above) + 1
        if string.sub(rows[place_of_own] or '', 1, KEY) == key then
          table.remove(rows, place_of_own)
        end
        told[place - 2], told[place - 1], told[place] = value, before, table.concat(rows)
      end
    end
    return unpack(told)
  end)
end

-- args: rows wanted above and below each key, then per shard m d h z xids keys. Adds for each key,
-- at which nothing stands, how many entries stand before it, and the rows on either side of it, best
-- first.
local function near(_, args)
  local above, below = tonumber(args[1]), tonumber(args[2])
  return each_shard(args, 2, 1, function(_, z, at)
    local told = {}
    for i, key in ipairs(cut(args[at], KEY)) do
      local before, rows = beside(z, key, above, below, 0)
      told[2 * i - 1], told[2 * i] = before, table.concat(rows)
    end
    return unpack(told)
  end)
end

-- first, first + step and so on up to last; around them what cuts the shard into equal parts; and
-- the last entry's rank: local ranks from 0 on, ascending, as far as there are entries.
local function grid_ranks(live, parts, first, last, step)
  local ranks = {}
  local function add(from, to, stride)
    for place = from, math.min(to, live - 1), stride do
      local rank = math.floor(place)
      if rank > (ranks[#ranks] or -1) then
        ranks[#ranks + 1] = rank
      end
    end
  end
  local stride = math.max(1, live / parts)
  add(0, first - 1, stride)
  add(first, last, step)
  add(math.ceil((last + 1) / stride) * stride, live - 1, stride)
  add(live - 1, live - 1, 1)
  return ranks
end

-- args: parts, then per shard m d h z xids and first, last, step. Adds these ranks and the keys of
-- the entries that have them.
local function grid(_, args)
  local parts = tonumber(args[1])
  return each_shard(args, 1, 3, function(_, z, at, live)
    local first, last, step = tonumber(args[at]), tonumber(args[at + 1]), tonumber(args[at + 2])
    local ranks, keys = {}, {}
    for i, rank in ipairs(grid_ranks(live, parts, first, last, step)) do
      ranks[i] = struct.pack('>I4', rank)
      -- The member '' has index 0. Made a string once: each number given is printed anew.
      local index = string.format('%d', rank + 1)
      keys[i] = string.sub(redis.call('ZRANGE', z, index, index)[1], 1, KEY)
    end
    return table.concat(ranks), table.concat(keys)
  end)
end

local function count_of(values, most)
  local count = 0
  for i = 1, most do
    count = count + (values[i] and 1 or 0)
  end
  return count
end

-- args: number of seasons, then per shard m and for each season h z. Replies C, T, live entries,
-- whether anything is being built, the places of the seasons that cannot be read, L, R, and the
-- history that goes on here.
local function state(_, args)
  local seasons = tonumber(args[1])
  local history = history_here()
  return each_group(args, 1, 1 + 2 * seasons, function(at)
    local meta = redis.call('HMGET', args[at], 'C', 'T', 'I', 'L', 'R')
    -- Whatever else m holds belongs to a copy.
    local building = redis.call('HLEN', args[at]) > count_of(meta, 5) and 1 or 0
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
    return { meta[1], meta[2], total, building, unbuilt, meta[4], meta[5], history }
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
register('window', window)
register('around', around)
register('near', near)
register('grid', grid)
register('state', state)
