-- All there is about one name of a lease, changed at once. Time is the server's, in microseconds.
--
-- KEYS[1]  hash: "last" = the last token that was given, "shared" = 1 if those who hold it share it,
--          "=<holder>" = "<token> <end> <wish>"
-- KEYS[2]  list: the wishes of those who wait, in their order, as JSON
-- ARGV[1]  what to do; the rest is said there
--
-- A token is at least the time at which it is given: it grows also where a server lost what it knew.

local KEPT = 7 * 86400 * 1000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local held, count, shared, last = {}, 0, false, 0

local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local field, value = flat[i], flat[i + 1]
  if field == 'last' then
    last = tonumber(value)
  elseif field == 'shared' then
    shared = value == '1'
  else
    local token, ends, wish = string.match(value, '^(%d+) (%d+) (.*)$')
    if tonumber(ends) <= now then
      redis.call('HDEL', KEYS[1], field)
    else
      held[string.sub(field, 2)] = {token, ends, wish}
      count = count + 1
    end
  end
end

local function whole(number)
  return string.format('%.0f', number)
end

local function keep(key, longer)
  redis.call('PEXPIRE', key, whole(KEPT + longer))
end

local function put(holder, token, ttl, wish)
  local ends = whole(now + ttl)
  held[holder] = {token, ends, wish}
  redis.call('HSET', KEYS[1], '=' .. holder, token .. ' ' .. ends .. ' ' .. wish, 'shared', shared and '1' or '0')
  keep(KEYS[1], ttl / 1000)
  return {token, ends}
end

local function forget(holder)
  redis.call('HDEL', KEYS[1], '=' .. holder)
  held[holder] = nil
  count = count - 1
end

-- Give the lease to a holder if there is room.
local function give(holder, ttl, limit, share, wish)
  local mine = held[holder]
  local others = count - (mine and 1 or 0)
  local free = others < limit
  if others > 0 and (shared or share) then
    free = shared and share
  end
  if not free then
    return nil
  end
  local token = mine and mine[1]
  if not mine then
    last = math.max(last + 1, now)
    token = whole(last)
    count = count + 1
    redis.call('HSET', KEYS[1], 'last', token)
  end
  shared = share
  return put(holder, token, ttl, wish)
end

-- Answer those who wait, in their order, as far as there is room. Who does not hear it is gone.
local function serve()
  while true do
    local head = redis.call('LINDEX', KEYS[2], 0)
    if not head then
      return
    end
    local wish = cjson.decode(head)
    local given = give(wish.holder, wish.ttl, wish.limit, wish.shared, wish.id)
    if not given then
      return
    end
    redis.call('LPOP', KEYS[2])
    if redis.call('PUBLISH', wish.channel, wish.id .. ' ' .. given[1] .. ' ' .. given[2]) == 0 then
      forget(wish.holder)
    end
  end
end

-- After how many milliseconds to look again: when the first of those who hold it ends.
local function later()
  local first
  for _, grant in pairs(held) do
    local ends = tonumber(grant[2])
    if not first or ends < first then
      first = ends
    end
  end
  return first and whole(math.ceil((first - now) / 1000)) or '0'
end

local what = ARGV[1]

-- A server that is full refuses a script whose first change needs memory. Who holds a lease may keep it and give it back
-- there, too: then the first change is one that needs none.
if what ~= 'take' and what ~= 'holders' then
  redis.call('HDEL', KEYS[1], '')
end

-- wish, whether to wait
if what == 'take' then
  serve()
  local wish = cjson.decode(ARGV[2])
  if held[wish.holder] or redis.call('LLEN', KEYS[2]) == 0 then
    local given = give(wish.holder, wish.ttl, wish.limit, wish.shared, wish.id)
    if given then
      redis.call('LREM', KEYS[2], 1, ARGV[2])
      return given
    end
  end
  if ARGV[3] == '1' and not redis.call('LPOS', KEYS[2], ARGV[2]) then
    if redis.call('RPUSH', KEYS[2], ARGV[2]) == 1 then
      keep(KEYS[2], 0)
    end
  end
  return {later()}
end

-- wish: waits no more; answers what it got meanwhile
if what == 'leave' then
  local wish = cjson.decode(ARGV[2])
  if redis.call('LREM', KEYS[2], 1, ARGV[2]) == 0 then
    local mine = held[wish.holder]
    if mine and mine[3] == wish.id then
      return {mine[1], mine[2]}
    end
  end
  serve()
  return {}
end

-- holder, token, ttl
if what == 'renew' then
  serve()
  local mine = held[ARGV[2]]
  if mine and mine[1] == ARGV[3] then
    return put(ARGV[2], mine[1], tonumber(ARGV[4]), mine[3])
  end
  return {}
end

-- holder, token, at least this token
if what == 'lift' then
  local mine = held[ARGV[2]]
  if mine and mine[1] == ARGV[4] then
    return {mine[1], mine[2]} -- done before: its answer was lost with the connection
  end
  if not mine or mine[1] ~= ARGV[3] then
    return {}
  end
  if tonumber(mine[1]) < tonumber(ARGV[4]) then
    last = math.max(last + 1, tonumber(ARGV[4]))
    local record = whole(last) .. ' ' .. mine[2] .. ' ' .. mine[3]
    redis.call('HSET', KEYS[1], 'last', whole(last), '=' .. ARGV[2], record)
    return {whole(last), mine[2]}
  end
  return {mine[1], mine[2]}
end

-- holder, token
if what == 'drop' then
  local mine = held[ARGV[2]]
  if mine and mine[1] == ARGV[3] then
    forget(ARGV[2])
  end
  serve()
  return {}
end

if what == 'end' then
  for holder in pairs(held) do
    forget(holder)
  end
  serve()
  return {}
end

-- 'holders'
serve()
local all = {}
for holder, grant in pairs(held) do
  all[#all + 1] = {holder, grant[1], grant[2]}
end
return all
