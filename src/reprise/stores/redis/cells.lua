-- What becomes of the cells of a space.
--
-- KEYS[i] begins the keys of a space, which all lie in one slot:
--   :cell   hash  name -> version, end (doubles, big-endian; 0 = never), then the data
--   :names  sorted set of the names, all of one score: so they stand in the order of their bytes
--   :ends   sorted set of the names of cells that end, by when they do
--   :feed   stream  <position>-0 -> n name, d data (none = removed), e end, o origin, a time, p position before it
--   :meta   hash  head: the last position; kept: the last that was forgotten; floor: above which positions go on
--   :said:<client>, and what is asked: see turn.lua

local HEAD, HEAD_SIZE = '>dd', 16

local function number_of(q, field)
  return tonumber(call('HGET', q .. ':meta', field) or '0')
end

-- A change of a space: its head, and whom to tell that there is more.
local function begin(q, floor)
  local known = call('HMGET', q .. ':meta', 'head', 'floor')
  local head = tonumber(known[1] or '0')
  return {q = q, head = head, first = head, floor = math.max(tonumber(known[2] or '0'), floor)}
end

local function enter(space, name, data, ends, origin)
  local q, before = space.q, space.head
  space.head = math.max(before, space.floor) + 1
  local entry = {'n', name, 'e', whole(ends), 'o', origin, 'a', whole(now), 'p', whole(before)}
  if data then
    entry[#entry + 1], entry[#entry + 2] = 'd', data
    call('HSET', q .. ':cell', name, struct.pack(HEAD, space.head, ends) .. data)
    call('ZADD', q .. ':names', 0, name)
  else
    call('HDEL', q .. ':cell', name)
    call('ZREM', q .. ':names', name)
  end
  if data and ends > 0 then
    call('ZADD', q .. ':ends', ends, name)
  else
    call('ZREM', q .. ':ends', name)
  end
  call('XADD', q .. ':feed', whole(space.head) .. '-0', unpack(entry))
end

local function finish(space, tap)
  if space.head > space.first then
    call('HSET', space.q .. ':meta', 'head', whole(space.head))
    call('PUBLISH', tap, '')
  end
end

local function let_end(space)
  local q = space.q
  for _, name in ipairs(call('ZRANGEBYSCORE', q .. ':ends', '-inf', now)) do
    enter(space, name, nil, 0, '')
  end
end

-- The answer: time, head, then name and cell of each that is there and has not ended.
local function view(q, names)
  local flat = {whole(now), whole(number_of(q, 'head'))}
  for i, cell in ipairs(read(q .. ':cell', names)) do
    local _, ends = struct.unpack(HEAD, cell or string.rep('\0', HEAD_SIZE))
    if cell and (ends == 0 or ends > now) then
      flat[#flat + 1], flat[#flat + 2] = names[i], cell
    end
  end
  return flat
end

-- tap, floor, origin, {name, data or nil, expected or nil, ttl or nil} ...: answers how the cells are, or the place of the
-- change that found another version, and that version
function does.apply(q, tap, floor, origin, changes)
  local space, names, refused = begin(q, floor), {}, nil
  let_end(space)
  for i, change in ipairs(changes) do
    names[i] = change[1]
  end
  local cells = read(q .. ':cell', names)
  for i, change in ipairs(changes) do
    local version = cells[i] and struct.unpack(HEAD, cells[i]) or 0
    if not refused and change[3] and change[3] ~= version then
      refused = {'refused', whole(i - 1), whole(version)}
    end
  end
  local there = {}
  for i, change in ipairs(changes) do
    local name, data, ttl, ends = change[1], change[2], change[4], 0
    if not refused and (data or cells[i]) then
      if ttl == 0 and cells[i] then
        ends = select(2, struct.unpack(HEAD, cells[i]))
      elseif ttl and ttl > 0 then
        ends = now + ttl
      end
      enter(space, name, data, data and ends or 0, origin)
      there[#there + 1] = data and name
    end
  end
  finish(space, tap)
  return refused or view(q, there)
end

-- how many entries of the feed to keep: answers how many went
function does.prune(q, keep)
  local gone = math.max(call('XLEN', q .. ':feed') - keep, 0)
  if gone > 0 then
    call('XTRIM', q .. ':feed', 'MAXLEN', keep)
    local first = call('XRANGE', q .. ':feed', '-', '+', 'COUNT', 1)[1]
    local kept = first and first[2][10] or whole(number_of(q, 'head'))
    call('HSET', q .. ':meta', 'kept', kept)
  end
  return gone
end

-- floor: positions go on above it, whatever floor others know of
function does.lift(q, floor)
  call('HSET', q .. ':meta', 'floor', whole(math.max(number_of(q, 'floor'), floor)))
  return ''
end

-- names
function looks.get(q, names)
  return view(q, names)
end

-- tap, floor, the least name in the words of ZRANGEBYLEX, the greatest, how many
function looks.scan(q, tap, floor, bounds, limit)
  local space = begin(q, floor)
  let_end(space)
  finish(space, tap)
  return view(q, call('ZRANGEBYLEX', q .. ':names', bounds[1], bounds[2], 'LIMIT', 0, limit))
end

-- tap, floor, position, how many: answers entries, or the position from behind which the feed is kept
function looks.feed(q, tap, floor, after, limit)
  local space = begin(q, floor)
  let_end(space)
  finish(space, tap)
  local kept, at = number_of(q, 'kept'), whole(after) .. '-0'
  if after ~= kept and (after < kept or #call('XRANGE', q .. ':feed', at, at) == 0) then
    return whole(kept)
  end
  return call('XRANGE', q .. ':feed', '(' .. at, '+', 'COUNT', limit)
end

-- Whether an operation needs memory, so that a server that is full may refuse it.
local function grows(operation)
  if operation[2] == 'apply' then
    for _, change in ipairs(operation[6]) do
      if change[2] then
        return true
      end
    end
  end
  return false
end

