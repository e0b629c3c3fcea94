-- What our larger scripts begin with. Time is the server's, in microseconds.

local CHUNK = 4000 -- arguments of one command; Lua takes no more than 8,000

local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local function whole(number)
  return string.format('%.0f', number)
end

-- A time as text: commands write numbers as text for each argument anew, and many tasks share a time.
local texts = {}

local function text(number)
  local known = texts[number]
  if not known then
    known = whole(number)
    texts[number] = known
  end
  return known
end

-- One command for many: its arguments in chunks, each of whole pairs.
local function many(command, key, values)
  for first = 1, #values, CHUNK do
    call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

local function read(key, ids)
  local found = {}
  for first = 1, #ids, CHUNK do
    local part = call('HMGET', key, unpack(ids, first, math.min(first + CHUNK - 1, #ids)))
    for i = 1, #part do
      found[first + i - 1] = part[i]
    end
  end
  return found
end

-- Operations by name: what changes something, answering it and what to remember of the answer; what only looks; how to
-- answer once more from what is remembered.
local does, looks, again = {}, {}, {}

