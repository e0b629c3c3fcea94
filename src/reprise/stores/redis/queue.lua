-- What becomes of the tasks of queues.
--
-- KEYS[i] begins the keys of a queue, which all lie in one slot:
--   :task      hash  id -> order, due, offered, number (doubles), level (32 bits), big-endian; behind them the data
--   :claim     hash  id -> {state, place, token, until, claims, ended, worker, note, what those left who settled it};
--              none = offered, never claimed
--   :outcome   hash  id -> what those left who settled it, where that is too long for :claim
--   :ready :later :claimed :done :dead
--              sorted sets of places (number and id), by order, time when due, end of claim, time of the end
--   :since     sorted set of the times since when those in :ready could be claimed
--   :since:count
--              hash  such a time -> how many they are: many share one, so counting is cheaper than a set of places
--   :levels    hash  level -> how many places of it are in :ready
--   :done:end :dead:end
--              sorted sets of "ended:until" by until: what ended then is kept until then; what is kept for ever is not in it
--   :meta      hash  number, token: the last ones; finished, failed: counts; paused
--   :said:<client>, and what is asked: see turn.lua

local MOST = 1000 -- places that one operation lets move on by the time
local SHORT = 512 -- bytes of an outcome that fit into :claim
local HEAD, HEAD_SIZE = '>ddddi4', 36
local PLACE = '%016d%s'
local concat = table.concat

local function ids_of(places)
  local ids = {}
  for i, place in ipairs(places) do
    ids[i] = string.sub(place, 17)
  end
  return ids
end

-- ---------------------------------------------------------------- who stands in line

-- A line collects who is to stand in :ready, or in :later, or who leaves :ready.
local function line()
  return {ready = {}, later = {}, since = {}, levels = {}}
end

-- Count one who joins or leaves those who are ready.
local function note(line, due, offered, level)
  local time, sinces, levels = math.max(due, offered), line.since, line.levels
  sinces[time] = (sinces[time] or 0) + 1
  levels[level] = (levels[level] or 0) + 1
end

local function join(line, place, order, due, offered, level)
  if due > now then
    local later = line.later
    later[#later + 1], later[#later + 2] = text(due), place
    return
  end
  local ready = line.ready
  ready[#ready + 1], ready[#ready + 2] = order, place
  note(line, due, offered, level)
end

local function count(q, line, sign)
  for level, number in pairs(line.levels) do
    call('HINCRBY', q .. ':levels', level, sign * number)
  end
  local first = {}
  for time, number in pairs(line.since) do
    local time = text(time)
    local left = call('HINCRBY', q .. ':since:count', time, sign * number)
    if left == number then
      first[#first + 1], first[#first + 2] = time, time
    elseif left <= 0 then
      call('HDEL', q .. ':since:count', time)
      call('ZREM', q .. ':since', time)
    end
  end
  many('ZADD', q .. ':since', first)
end

local function stand(q, line)
  many('ZADD', q .. ':ready', line.ready)
  many('ZADD', q .. ':later', line.later)
  count(q, line, 1)
end

-- Let tasks that are due, and those whose claim has ended, stand in line. The first change needs no memory, so that a
-- server that is full does not refuse it.
local function move_on(q)
  local over = call('ZRANGEBYSCORE', q .. ':claimed', '-inf', now, 'LIMIT', 0, MOST)
  local due = call('ZRANGEBYSCORE', q .. ':later', '-inf', now, 'LIMIT', 0, MOST)
  if #over == 0 and #due == 0 then
    return
  end
  many('ZREM', q .. ':claimed', over)
  many('ZREM', q .. ':later', due)
  local joining, records = line(), {}
  local ids = ids_of(over)
  local tasks, claims = read(q .. ':task', ids), read(q .. ':claim', ids)
  for i, id in ipairs(ids) do
    local order, at, offered, _, level = struct.unpack(HEAD, tasks[i])
    local record = cmsgpack.unpack(claims[i])
    record[1], record[7] = 'ready', '' -- under its token: a late settle counts until somebody claims it
    records[#records + 1], records[#records + 2] = id, cmsgpack.pack(record)
    join(joining, over[i], order, math.min(at, now), offered, level)
  end
  many('HSET', q .. ':claim', records)
  for i, task in ipairs(read(q .. ':task', ids_of(due))) do
    local order, at, offered, _, level = struct.unpack(HEAD, task)
    join(joining, due[i], order, at, offered, level)
  end
  stand(q, joining)
end

-- ---------------------------------------------------------------- tasks

local function is_over(record)
  return (record[1] == 'done' or record[1] == 'dead') and record[4] > 0 and record[4] <= now
end

-- Take places out of all sorted sets, and their tasks out of the rest unless they stay.
local function remove(q, places, stays)
  if #places == 0 then
    return
  end
  local ids, leaving = ids_of(places), line()
  local tasks = read(q .. ':task', ids)
  for i, place in ipairs(places) do
    if tasks[i] and call('ZREM', q .. ':ready', place) == 1 then
      local _, due, offered, _, level = struct.unpack(HEAD, tasks[i])
      note(leaving, due, offered, level)
    end
  end
  count(q, leaving, -1)
  for _, set in ipairs({':later', ':claimed', ':done', ':dead'}) do
    many('ZREM', q .. set, places)
  end
  for _, set in ipairs({':done', ':dead'}) do
    if call('EXISTS', q .. set) == 0 then
      call('DEL', q .. set .. ':end')
    end
  end
  if not stays then
    many('HDEL', q .. ':claim', ids)
    many('HDEL', q .. ':outcome', ids)
    many('HDEL', q .. ':task', ids)
  end
end

-- A record without what those left who settled it, packed; and that.
local function apart(record)
  local outcome = record[9]
  record[9] = nil
  return cmsgpack.pack(record), outcome
end

-- What the client makes tasks of: id, task, claim, outcome of each that is there, under these tokens if any are given.
local function shown(q, ids, tokens)
  local flat = {}
  local tasks, claims = read(q .. ':task', ids), read(q .. ':claim', ids)
  local outcomes = read(q .. ':outcome', ids)
  for i, id in ipairs(ids) do
    local record, claim, outcome = claims[i] and cmsgpack.unpack(claims[i]), claims[i] or '', outcomes[i] or ''
    if tasks[i] and not (record and is_over(record)) and (not tokens or record and record[3] == tokens[i]) then
      if record and record[9] then
        claim, outcome = apart(record)
      end
      local n = #flat
      flat[n + 1], flat[n + 2], flat[n + 3], flat[n + 4] = id, tasks[i], claim, outcome
    end
  end
  return flat
end

-- Whether what is known of an id closes it to another offer.
local function blocks(record, again)
  if not record then
    return true
  end
  return not is_over(record) and (record[1] ~= 'done' or now < record[6] + again)
end

-- Tap those who wait for tasks; the name of a queue is percent-encoded in its keys.
local function tap(q)
  local root, name = string.match(q, '^([^{]*)queue:{(.*)}$')
  local plain = string.gsub(name, '%%(%x%x)', function(code)
    return string.char(tonumber(code, 16))
  end)
  call('PUBLISH', root .. 'tap:queue/' .. plain, '')
end

-- What is known of those that are offered, by id; an id that was made for its task needs no look.
local function known_of(q, offers)
  local ids, known = {}, {}
  for i = 1, #offers do
    if offers[i][7] >= 0 then
      ids[#ids + 1] = offers[i][1]
    end
  end
  for i, task in ipairs(read(q .. ':task', ids)) do
    known[ids[i]] = task
  end
  return known
end

-- {id, data, order, due, level, delay, again} ...: answers a 1 for each that is new, a 0 for the others; again -1 = no
-- other task has its id
function does.offer(q, offers)
  local known, seen, old = known_of(q, offers), {}, {}
  local new, answer, joining = {}, {}, line()
  local number = tonumber(call('HGET', q .. ':meta', 'number') or '0')
  for i = 1, #offers do
    local offer = offers[i]
    local id = offer[1]
    local record = known[id] and call('HGET', q .. ':claim', id)
    record = record and cmsgpack.unpack(record)
    if seen[id] or known[id] and blocks(record, offer[7]) then
      answer[i] = '0'
    else
      if record then
        old[#old + 1] = record[2]
      end
      local order, level = offer[3], offer[5]
      local due = offer[6] > 0 and now + offer[6] or offer[4]
      number = number + 1
      new[#new + 1], new[#new + 2] = id, struct.pack(HEAD, order, due, now, number, level) .. offer[2]
      join(joining, string.format(PLACE, number, id), order, due, now, level)
      seen[id], answer[i] = true, '1'
    end
  end
  if #new > 0 then
    call('HSET', q .. ':meta', 'number', whole(number)) -- first: a server that is full refuses it, and all is as it was
    remove(q, old)
    many('HSET', q .. ':task', new)
    stand(q, joining)
    tap(q)
  end
  return concat(answer)
end

-- worker, limit, ttl: answers the tasks, and for a second time their ids and tokens
function does.claim(q, worker, limit, ttl)
  local known = call('HMGET', q .. ':meta', 'paused', 'token')
  if known[1] or limit < 1 then
    return {}, {{}, {}}
  end
  move_on(q)
  local popped, places, ids = call('ZPOPMIN', q .. ':ready', limit), {}, {}
  if #popped == 0 then
    return {}, {{}, {}}
  end
  for i = 1, #popped / 2 do
    places[i] = popped[2 * i - 1]
    ids[i] = string.sub(places[i], 17)
  end
  local tasks, claims = read(q .. ':task', ids), read(q .. ':claim', ids)
  local token, ends = math.max(tonumber(known[2] or '0'), now), now + ttl
  local until_text = text(ends)
  local records, claimed, tokens, leaving, flat = {}, {}, {}, line(), {}
  local record = {'claimed', '', 0, ends, 1, 0, worker, ''}
  for i, id in ipairs(ids) do
    local _, due, offered, _, level = struct.unpack(HEAD, tasks[i])
    local outcome = ''
    token = token + 1
    record[2], record[3], record[5], record[8], record[9] = places[i], token, 1, '', nil
    if claims[i] then
      local old = cmsgpack.unpack(claims[i])
      record[5], record[8], record[9] = old[5] + 1, old[8], old[9]
      outcome = not old[9] and call('HGET', q .. ':outcome', id) or ''
    end
    local packed = cmsgpack.pack(record)
    records[2 * i - 1], records[2 * i] = id, packed
    if record[9] then
      packed, outcome = apart(record)
    end
    claimed[2 * i - 1], claimed[2 * i] = until_text, places[i]
    flat[4 * i - 3], flat[4 * i - 2], flat[4 * i - 1], flat[4 * i] = id, tasks[i], packed, outcome
    tokens[i] = token
    note(leaving, due, offered, level)
  end
  count(q, leaving, -1)
  many('HSET', q .. ':claim', records)
  many('ZADD', q .. ':claimed', claimed)
  call('HSET', q .. ':meta', 'token', whole(token))
  return flat, {ids, tokens}
end

function again.claim(q, answer)
  return shown(q, answer[1], answer[2])
end

-- Those that ended at a time and were kept for long enough, and whether these are all of that time.
local function over_of(q, state, time, limit)
  local places = call('ZRANGEBYSCORE', q .. ':' .. state, time, time)
  local over = {}
  for i, claim in ipairs(read(q .. ':claim', ids_of(places))) do
    if #over < limit and claim and is_over(cmsgpack.unpack(claim)) then
      over[#over + 1] = places[i]
    end
  end
  return over, #over < limit
end

-- Remove what has been kept for long enough; answers how many.
local function sweep(q, limit)
  local removed = 0
  for _, state in ipairs({'done', 'dead'}) do
    local ends = q .. ':' .. state .. ':end'
    while removed < limit do
      local first = call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 1)[1]
      if not first then
        break
      end
      local over, are_all = over_of(q, state, string.match(first, '%d+'), limit - removed)
      remove(q, over)
      removed = removed + #over
      if are_all then
        call('ZREM', ends, first)
      end
    end
  end
  return removed
end

-- A claim counts as long as nobody else has the task, also when its time is over.
local function may_settle(record, token)
  return token > 0 and record[3] == token and (record[1] == 'claimed' or record[1] == 'ready')
end

local function append(values, first, second)
  values[#values + 1] = first
  values[#values + 1] = second
end

-- When a task is said to have ended: those of one call that are kept for as long share a time, others have another. `times`
-- are those of this call, by state and for how long.
local function time_of(times, sets, state, keep)
  local known = times[state][keep or -1]
  if not known then
    known = now + times.number
    times.number = times.number + 1
    times[state][keep or -1] = known
    if keep then
      append(sets[state .. ':end'], text(now + keep), text(known) .. ':' .. text(now + keep))
    end
  end
  return known
end

local function settle_one(settlement, record, task, joining, records, outcomes, sets, times)
  local id, state, delay, place = settlement[1], settlement[3], settlement[4], record[2]
  local outcome, keep = settlement[6], settlement[7]
  if outcome and #outcome <= SHORT then
    record[9] = outcome
  elseif outcome then
    record[9] = nil
    append(outcomes, id, outcome)
  end
  record[1], record[4], record[6], record[7], record[8] = state, 0, 0, '', settlement[5]
  if state == 'done' or state == 'dead' then
    record[6] = time_of(times, sets, state, keep)
    record[4] = keep and now + keep or 0
    append(sets[state], text(record[6]), place)
    if state == 'done' then
      append(sets.task, id, string.sub(task, 1, HEAD_SIZE))
    end
  else
    record[1], record[3] = 'ready', 0
    record[5] = record[5] - (state == 'back' and 1 or 0)
    local order, due, offered, number, level = struct.unpack(HEAD, task)
    if delay > 0 then
      due = now + delay
      append(sets.task, id, struct.pack(HEAD, order, due, offered, number, level) .. string.sub(task, HEAD_SIZE + 1))
    end
    join(joining, place, order, due, offered, level)
  end
  append(records, id, cmsgpack.pack(record))
end

-- {id, token, state, delay, note, outcome or nil, keep or nil} ...: answers a 1 for each that was ended, a 0 for the others
function does.settle(q, settlements)
  local ids = {}
  for i, settlement in ipairs(settlements) do
    ids[i] = settlement[1]
  end
  local claims, live, places, ended, answer = read(q .. ':claim', ids), {}, {}, {}, {}
  local gone, staying, finished, failed = {}, {}, 0, 0
  for i, settlement in ipairs(settlements) do
    local record = claims[i] and cmsgpack.unpack(claims[i])
    local id, state = settlement[1], settlement[3]
    answer[i] = '0'
    if record and may_settle(record, settlement[2]) and not ended[id] then
      ended[id], answer[i] = true, '1'
      if record[1] == 'ready' then
        remove(q, {record[2]}, true) -- its claim had ended, and nobody else took it
      end
      places[#places + 1] = record[2]
      if state == 'gone' then
        gone[#gone + 1] = id
      else
        live[#live + 1], staying[#staying + 1] = {settlement, record}, id
      end
      finished = finished + ((state == 'done' or state == 'gone') and 1 or 0)
      failed = failed + ((state == 'dead' or state == 'ready') and 1 or 0)
    end
  end
  many('ZREM', q .. ':claimed', places)
  local tasks, joining, records, outcomes = read(q .. ':task', staying), line(), {}, {}
  local sets = {done = {}, dead = {}, ['done:end'] = {}, ['dead:end'] = {}, task = {}}
  local times = {done = {}, dead = {}, number = 0}
  for i, pair in ipairs(live) do
    settle_one(pair[1], pair[2], tasks[i], joining, records, outcomes, sets, times)
  end
  many('HDEL', q .. ':claim', gone)
  many('HDEL', q .. ':task', gone)
  if #gone > 0 and call('EXISTS', q .. ':outcome') == 1 then
    many('HDEL', q .. ':outcome', gone)
  end
  many('HSET', q .. ':task', sets.task)
  sets.task = nil
  for set, values in pairs(sets) do
    many('ZADD', q .. ':' .. set, values)
  end
  many('HSET', q .. ':claim', records)
  many('HSET', q .. ':outcome', outcomes)
  stand(q, joining)
  if finished > 0 then
    call('HINCRBY', q .. ':meta', 'finished', finished)
  end
  if failed > 0 then
    call('HINCRBY', q .. ':meta', 'failed', failed)
  end
  sweep(q, #settlements)
  return concat(answer)
end

-- {id, token, ttl} ...: answers the new end of each, 0 for those that were lost
function does.extend(q, wishes)
  local ids, answer = {}, {}
  for i, wish in ipairs(wishes) do
    ids[i] = wish[1]
  end
  for i, claim in ipairs(read(q .. ':claim', ids)) do
    local record = claim and cmsgpack.unpack(claim)
    answer[i] = '0'
    if record and may_settle(record, wishes[i][2]) then
      local place = record[2]
      if record[1] == 'ready' then
        remove(q, {place}, true)
      end
      record[1], record[4] = 'claimed', now + wishes[i][3]
      call('HSET', q .. ':claim', ids[i], cmsgpack.pack(record))
      call('ZADD', q .. ':claimed', record[4], place)
      answer[i] = whole(record[4])
    end
  end
  return answer
end

-- ids, order or nil, due or nil, state or nil: answers how many were changed
function does.change(q, ids, wished_order, wished_due, state)
  local tasks, claims = read(q .. ':task', ids), read(q .. ':claim', ids)
  local joining, gone, changed, seen = line(), {}, 0, {}
  for i, id in ipairs(ids) do
    local record = claims[i] and cmsgpack.unpack(claims[i])
    local is = record and record[1] or 'ready'
    local may = is == 'ready' or is == 'dead' or (is == 'done' and state == 'gone')
    if tasks[i] and may and not seen[id] and not (record and is_over(record)) then
      seen[id], changed = true, changed + 1
      local order, due, offered, number, level = struct.unpack(HEAD, tasks[i])
      local place = string.format(PLACE, number, id)
      if state == 'gone' then
        gone[#gone + 1] = place
      else
        order, due = wished_order or order, wished_due or due
        record = record or {'ready', place, 0, 0, 0, 0, '', ''}
        remove(q, {place}, true)
        if state == 'ready' then
          record[4], record[5], record[6] = 0, 0, 0
        elseif state then
          record[4], record[6] = 0, now
        end
        record[1], record[3] = state or is, 0
        call('HSET', q .. ':task', id, struct.pack(HEAD, order, due, offered, number, level) .. string.sub(tasks[i], HEAD_SIZE + 1))
        call('HSET', q .. ':claim', id, cmsgpack.pack(record))
        if record[1] == 'dead' then
          call('ZADD', q .. ':dead', record[6], place) -- until when it is kept is still in :dead:end
        else
          join(joining, place, order, due, offered, level)
        end
      end
    end
  end
  remove(q, gone)
  stand(q, joining)
  return changed
end

does.sweep = sweep

-- Make what is derived from other keys anew, as layout 1 did not have it: since when who is ready, until when who is kept.
function does.renew(q)
  call('DEL', q .. ':since', q .. ':since:count', q .. ':levels', q .. ':done:end', q .. ':dead:end')
  local function pages(set, see)
    for first = 0, call('ZCARD', q .. set) - 1, MOST do
      see(call('ZRANGE', q .. set, first, first + MOST - 1, 'WITHSCORES'))
    end
  end
  local function split(page)
    local places, scores = {}, {}
    for i = 1, #page, 2 do
      places[#places + 1], scores[#scores + 1] = page[i], page[i + 1]
    end
    return places, scores
  end
  pages(':ready', function(page)
    local standing = line()
    for _, task in ipairs(read(q .. ':task', ids_of((split(page))))) do
      local _, due, offered, _, level = struct.unpack(HEAD, task)
      note(standing, due, offered, level)
    end
    count(q, standing, 1)
  end)
  for _, state in ipairs({'done', 'dead'}) do
    pages(':' .. state, function(page)
      local places, scores = split(page)
      local ends = {}
      for i, claim in ipairs(read(q .. ':claim', ids_of(places))) do
        local record = cmsgpack.unpack(claim)
        if record[4] > 0 then
          append(ends, text(record[4]), scores[i] .. ':' .. text(record[4]))
        end
      end
      many('ZADD', q .. ':' .. state .. ':end', ends)
    end)
  end
  return ''
end

-- whether nobody may claim
function does.pause(q, paused)
  if paused then
    call('HSET', q .. ':meta', 'paused', '1')
  else
    call('HDEL', q .. ':meta', 'paused')
  end
  return ''
end

-- ---------------------------------------------------------------- looking

-- answers after how many microseconds there is something to claim, '' = not by the passing of time
function looks.due(q)
  if call('HEXISTS', q .. ':meta', 'paused') == 1 then
    return ''
  end
  move_on(q)
  if call('ZCARD', q .. ':ready') > 0 then
    return '0'
  end
  local first
  for _, set in ipairs({':later', ':claimed'}) do
    local at = call('ZRANGE', q .. set, 0, 0, 'WITHSCORES')[2]
    if at and (not first or tonumber(at) < first) then
      first = tonumber(at)
    end
  end
  return first and whole(first - now) or ''
end

-- Pass over what has been kept for long enough.
local function ended(q, state, skip, limit)
  local found, first = {}, 0
  while #found < skip + limit do
    local part = call('ZRANGE', q .. ':' .. state, first, first + MOST - 1)
    if #part == 0 then
      break
    end
    for i, claim in ipairs(read(q .. ':claim', ids_of(part))) do
      if not is_over(cmsgpack.unpack(claim)) then
        found[#found + 1] = part[i]
      end
    end
    first = first + MOST
  end
  local page = {}
  for i = skip + 1, math.min(skip + limit, #found) do
    page[#page + 1] = found[i]
  end
  return page
end

-- state, limit, skip
function looks.find(q, state, limit, skip)
  if limit < 1 then
    return {whole(now)}
  end
  local places
  if state == 'done' or state == 'dead' then
    places = ended(q, state, skip, limit)
  else
    move_on(q)
    places = call('ZRANGE', q .. ':' .. state, skip, skip + limit - 1)
  end
  local flat = shown(q, ids_of(places))
  table.insert(flat, 1, whole(now))
  return flat
end

-- ids
function looks.look(q, ids)
  local flat = shown(q, ids)
  table.insert(flat, 1, whole(now))
  return flat
end

-- answers ready, later, claimed, done, dead, finished, failed, since when the oldest is ready, whether paused, levels
function looks.stats(q)
  move_on(q)
  local function kept(state)
    local left = call('ZCARD', q .. ':' .. state)
    for _, each in ipairs(call('ZRANGEBYSCORE', q .. ':' .. state .. ':end', '-inf', now)) do
      local time = string.match(each, '%d+')
      left = left - call('ZCOUNT', q .. ':' .. state, time, time)
    end
    return left
  end
  local meta = call('HMGET', q .. ':meta', 'finished', 'failed', 'paused')
  local oldest = call('ZRANGE', q .. ':since', 0, 0, 'WITHSCORES')[2]
  return {
    call('ZCARD', q .. ':ready'), call('ZCARD', q .. ':later'), call('ZCARD', q .. ':claimed'), kept('done'), kept('dead'),
    tonumber(meta[1] or '0'), tonumber(meta[2] or '0'), oldest and now - oldest or 0, meta[3] and 1 or 0,
    call('HGETALL', q .. ':levels'),
  }
end

-- Whether an operation needs memory, so that a server that is full may refuse it.
local function grows(operation)
  return operation[2] == 'offer'
end
