-- What the index holds, told piece by piece to whoever holds it against the ledger.

-- keys: m h z. nil, or why the season cannot be looked at.
local function trouble_of(keys)
  local m, h, z = unpack(keys)
  local mark, incarnation = unpack(redis.call('HMGET', m, 'C', 'I'))
  if not mark then
    return 'UNBUILT'
  end
  local epoch, verdict = check_guard(h, z, READY, incarnation)
  return not epoch and verdict or nil
end

-- keys: m h z; args: the point to go on behind, count. Replies the next keys, for each the rest of its
-- user's value, and the users whose values say that they stand elsewhere.
local function keys_behind(keys, args)
  local trouble = trouble_of(keys)
  if trouble then
    return trouble
  end
  local found = redis.call('ZRANGE', keys[3], '(' .. args[1], '+', 'BYLEX', 'LIMIT', 0, args[2])
  local owners, told, tails, strays = {}, {}, {}, {}
  for i, member in ipairs(found) do
    owners[i] = string.sub(member, 25, KEY)
    told[i] = string.sub(member, 1, KEY)
  end
  if #owners > 0 then
    for i, kept in ipairs(redis.call('HMGET', keys[2], unpack(owners))) do
      local value = value_of(kept) or string.rep('\0', VALUE)
      tails[i] = string.sub(value, 25)
      if state_of(value) ~= LIVE or member_of(value, owners[i]) ~= found[i] then
        strays[#strays + 1] = owners[i]
      end
    end
  end
  return { table.concat(told), table.concat(tails), table.concat(strays) }
end

-- keys: m h z; args: users. Replies for each its value, or nothing; and '1' where it has a key to
-- stand at and the set lacks it.
local function values(keys, args)
  local trouble = trouble_of(keys)
  if trouble then
    return trouble
  end
  local users, lacking = {}, {}
  for at = 1, #args[1], 8 do
    users[#users + 1] = string.sub(args[1], at, at + 7)
  end
  local found = redis.call('HMGET', keys[2], unpack(users))
  for i, kept in ipairs(found) do
    local value = value_of(kept)
    local member = value and state_of(value) == LIVE and member_of(value, users[i])
    found[i] = value
    lacking[i] = member and not redis.call('ZSCORE', keys[3], member) and '1' or '0'
  end
  return { found, table.concat(lacking) }
end

local function register_look(name, callback)
  redis.register_function({
    function_name = PREFIX .. name,
    callback = callback,
    flags = { 'no-writes' },
  })
end

register_look('keys_behind', keys_behind)
register_look('values', values)
